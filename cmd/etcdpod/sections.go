package main

import "github.com/urfave/cli/v2"

// section is where the help lists a command.
type section int

const (
	sectionLook section = iota
	sectionData
	sectionMembers
	sectionAccess
	sectionRuns
	sectionProgram
	sections
)

// heading is what the help writes above a section.
func (s section) heading() string {
	return [sections]string{
		"Look", "Back up and restore", "Members", "Certificates and the API server", "Runs", "etcdpod itself",
	}[s]
}

var offered [sections][]func(*session) []*cli.Command

// offer adds commands to a section of the help, below those of the files before this one. Each
// file offers its own, in its init, so that a new command is a new file and nothing else.
func offer(in section, commands ...func(*session) *cli.Command) {
	offerAll(in, func(s *session) (all []*cli.Command) {
		for _, command := range commands {
			all = append(all, command(s))
		}
		return all
	})
}

// offerAll is for a file whose commands are as many as something else has parts.
func offerAll(in section, commands func(*session) []*cli.Command) {
	offered[in] = append(offered[in], commands)
}

// commands returns all that was offered, in the order of the help.
func (s *session) commands() (all []*cli.Command) {
	for in, list := range offered {
		for _, of := range list {
			for _, c := range of(s) {
				c.Category = section(in).heading()
				c.HideHelp = true
				all = append(all, c)
			}
		}
	}
	return all
}
