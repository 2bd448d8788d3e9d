package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/certs"
)

func init() {
	offer(sectionAccess, (*session).certsCheckCommand)
}

func (s *session) certsCheckCommand() *cli.Command {
	return &cli.Command{
		Name: "certs check", Aliases: []string{"certs check-expiration"},
		Usage: "show when certificates expire, in the files and as actually served",
		Description: `The certificates of etcd and of the API server, in the columns of kubeadm certs ` +
			`check-expiration, followed by what etcd's client and peer ports and the API server's port actually ` +
			`present: a process may still use what its file held earlier. Each certificate, also those in ` +
			`kubeadm's kubeconfigs, is checked against its key, its CA, and the addresses at which it is used. ` +
			`The exit code is 6 when something is wrong, has less than 30 days left, or could not be checked. It ` +
			`works when everything is down, and changes nothing. The command's other name is certs ` +
			`check-expiration.`,
		UsageText: `etcdpod certs check
etcdpod certs check -o json`,
		Action: s.certsCheck,
	}
}

func (s *session) certsCheck(c *cli.Context) error {
	var report certs.Report
	err := s.onNode(c, func(n *phases.Node, _ display) (err error) {
		report, err = certs.Check(c.Context, n.Look)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.result(c, &report, func(w io.Writer) { writeCerts(w, report) }); err != nil {
		return err
	}
	if len(report.Warnings) > 0 {
		return foundError(exitFoundWrong)
	}
	return nil
}

func writeCerts(w io.Writer, r certs.Report) {
	if elsewhere := r.Elsewhere(); elsewhere != "" {
		fmt.Fprintln(w, elsewhere)
		return
	}
	rows := [][]string{{"CERTIFICATE", "EXPIRES", "RESIDUAL TIME", "CERTIFICATE AUTHORITY", "EXTERNALLY MANAGED"}}
	for _, c := range r.Certificates {
		rows = append(rows, append(certColumns(c), c.CAName, yesNo(c.ExternallyManaged)))
	}
	table(w, rows)
	fmt.Fprintln(w)
	rows = [][]string{{"CERTIFICATE AUTHORITY", "EXPIRES", "RESIDUAL TIME", "EXTERNALLY MANAGED"}}
	for _, c := range r.CertificateAuthorities {
		rows = append(rows, append(certColumns(c), yesNo(c.ExternallyManaged)))
	}
	table(w, rows)
	if len(r.Served) > 0 {
		fmt.Fprintln(w)
		table(w, servedRows(r.Served))
	}
	if len(r.Warnings) > 0 {
		fmt.Fprintln(w)
	}
	for _, warning := range r.Warnings {
		behind(w, "  ! ", warning)
	}
	fmt.Fprintln(w)
	writeNext(w, r.Next)
}

// certColumns are kubeadm's first columns (kubeadm, cmd/certs.go).
func certColumns(c certs.CertificateReport) []string {
	if c.Missing {
		return []string{"!MISSING! " + c.Name, "", ""}
	}
	return append([]string{c.Name}, ends(c.ExpirationDate, c.ResidualTime)...)
}

func ends(at time.Time, seconds int64) []string {
	if at.IsZero() {
		return []string{"", ""}
	}
	return []string{at.UTC().Format("Jan 02, 2006 15:04 MST"),
		duration.HumanDuration(time.Duration(seconds) * time.Second)}
}

func servedRows(served []certs.ServedReport) [][]string {
	rows := [][]string{{"SERVED BY", "AT", "EXPIRES", "RESIDUAL TIME", "CERTIFICATE", "AS THE FILE"}}
	for _, s := range served {
		same := yesNo(s.AsFile)
		if s.Error != "" {
			same = s.Error
		}
		rows = append(rows, append([]string{s.Program + ", " + s.Port, s.Address},
			append(ends(s.ExpirationDate, s.ResidualTime), s.Name, same)...))
	}
	return rows
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
