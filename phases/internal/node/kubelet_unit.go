package node

import (
	"path/filepath"
	"strings"
)

// What would keep systemd from starting the kubelet, whatever the kubelet itself would say.

// execPrefixes may stand before a command of a unit (systemd.service(5)); with a dash it may fail.
const execPrefixes = "-@:+!|"

// unitFails says why systemd would not start the kubelet, and what to do; empty where nothing tells
// so.
func unitFails(f Reader) (why, cure string) {
	if unit := masked(f); unit != "" {
		return "its unit is masked, by " + unit, "run `systemctl unmask kubelet`"
	}
	u, err := readUnit(f)
	if err != nil || u.command() == "" || u.elsewhere || !u.whole {
		return "", "" // there is none, or it cannot be judged
	}
	if len(u.commands) > 1 && !u.oneshot {
		return "its unit has more than one ExecStart=, and systemd takes a single one", "put an empty ExecStart= in " +
			"front of the one that counts, in the drop-in of kubelet.service that has it"
	}
	for _, file := range u.environments {
		if !strings.ContainsAny(file, "%*?[") && missing(f, file) {
			return "the EnvironmentFile " + file + " of its unit does not exist, and its name does not begin with " +
				"a dash, which would allow that", "put it back, empty if nothing in it is needed"
		}
	}
	itself := strings.TrimLeft(u.command(), execPrefixes) // with a dash it must be there, too
	for _, command := range append(u.before, itself) {
		if program := programOf(command); missing(f, program) {
			return "the program " + program + ", which its unit starts, does not exist",
				"install it again, in the version of this node's kubelet"
		}
	}
	return "", ""
}

// programOf is the program of a unit's command; empty where it may fail, or cannot be told.
func programOf(command string) string {
	bare := strings.TrimLeft(command, execPrefixes)
	words, err := SplitWords(bare)
	if err != nil || len(words) == 0 || strings.ContainsAny(words[0], "%$") {
		return ""
	}
	if strings.Contains(command[:len(command)-len(bare)], "-") {
		return ""
	}
	return words[0]
}

// masked is the unit of the kubelet, if it leads to nothing, so that systemd does not start it
// (systemctl(1), mask); empty otherwise.
func masked(f Reader) string {
	for _, dir := range unitDirs()[:2] {
		unit := filepath.Join(dir, kubeletUnit)
		if Resolved(f, unit) == "/dev/null" {
			return unit
		}
	}
	return ""
}
