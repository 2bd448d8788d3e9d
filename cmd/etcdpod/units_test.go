package main

import (
	"bytes"
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/etcdpod/etcdpod/e2e/systemd"
)

// typed is what the program does with a command line, whose words have no spaces but ␣.
func typed(t *testing.T, line string) (stdout, stderr string, code int) {
	t.Helper()
	args := strings.Fields(line)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "␣", " ")
	}
	var out, wrong bytes.Buffer
	// What is set here must not get into a unit.
	env := func(name string) string {
		return map[string]string{"ETCDPOD_BACKUP_DIR": "/elsewhere", "ETCDPOD_OUTPUT": "json"}[name]
	}
	code = run(t.Context(), args, strings.NewReader(""), &out, &wrong, env)
	return out.String(), wrong.String(), code
}

// printed insists on a unit.
func printed(t *testing.T, line string) string {
	t.Helper()
	out, wrong, code := typed(t, line)
	if code != 0 || wrong != "" {
		t.Fatalf("%s ends with %d: %s", line, code, wrong)
	}
	return out
}

// someUnits are command lines that print units, each with the file that has what they print.
func someUnits() map[string]string {
	const image = "--image registry.example/etcdpod:1.2.3"
	return map[string]string{
		"etcdpod units systemd backup": "unit-backup",
		"etcdpod units systemd backup --calendar hourly --binary /usr/local/bin/etcdpod " +
			`-- --dir /mnt/a␣b%c$d"e --keep=48 --shared-dir --cacert /root/ca.crt`: "unit-backup-dir",
		"etcdpod units systemd defrag":                                             "unit-defrag",
		"etcdpod units systemd status":                                             "unit-status",
		"etcdpod units systemd status --textfile-dir /srv/it's -- --nodes cp1,cp2": "unit-status-nodes",
		"etcdpod units cronjob backup --image localhost/etcdpod:1.2.3":             "cronjob-backup",
		"etcdpod units cronjob backup --node cp1 " + image + " -- --dir /mnt/s␣a":  "cronjob-backup-node",
		"etcdpod units cronjob defrag " + image:                                    "cronjob-defrag",
		"etcdpod units cronjob defrag --secret etcd-client " + image +
			" -- --endpoints https://10.0.0.11:2379,https://10.0.0.12:2379": "cronjob-defrag-secret",
		"etcdpod units cronjob defrag --schedule @weekly " + image + " -- --endpoints " +
			"https://10.0.0.11:2379 --cert /c.crt --key /c.key --when dbSize␣%␣2␣==␣0": "cronjob-defrag-endpoints",
	}
}

func TestUnitsArePrinted(t *testing.T) {
	for line, name := range someUnits() {
		golden(t, filepath.Join("testdata", name+".golden"), printed(t, line))
	}
}

func TestOneOfTwoFilesIsPrinted(t *testing.T) {
	const line = "etcdpod units systemd backup"
	both := printed(t, line)
	for _, kind := range []string{"service", "timer"} {
		only := strings.ReplaceAll(printed(t, line+" --only "+kind), " --only "+kind+"\n", "\n")
		if !strings.Contains(both, only) || strings.Count(only, "\n[Unit]\n") != 1 ||
			!strings.HasPrefix(only, "# etcdpod-backup."+kind+":") {
			t.Errorf("--only %s prints\n%s", kind, only)
		}
	}
}

// commandIn is the command line in a unit, from the name of the command on.
func commandIn(t *testing.T, unit string) []string {
	t.Helper()
	if strings.Contains(unit, "kind: CronJob") {
		words := cronJob(t, unit).Spec.JobTemplate.Spec.Template.Spec.Containers[0].Command
		if words[0] != "/usr/bin/etcdpod" {
			t.Errorf("a pod runs %q", words)
		}
		return words[1:]
	}
	words, err := systemd.Command(unit)
	if err != nil {
		t.Fatal(err)
	}
	if words[0] == "/bin/sh" {
		line, _, _ := strings.Cut(words[2], " >etcdpod.new; ")
		line = strings.Replace(line, "/usr/bin/etcdpod", `printf '%s\n'`, 1)
		out, err := exec.Command("/bin/sh", "-c", line).Output()
		if err != nil {
			t.Fatalf("%q: %v", words, err)
		}
		words = append(words[:1], strings.Split(strings.TrimSpace(string(out)), "\n")...)
	}
	return words[1:]
}

func TestEveryCommandLineInAUnitIsOneOfEtcdpods(t *testing.T) {
	for line, name := range someUnits() {
		words := commandIn(t, printed(t, line))
		l, err := arrange((&session{}).app(), words, func(string) string { return "" })
		if err != nil || l.command == nil || !strings.Contains(name, l.command.Name) || len(l.arguments) > 0 {
			t.Errorf("%s runs %q: %v", name, words, err)
		}
		if l.command.Name == "defrag" && !l.typed["yes"] {
			t.Errorf("%s runs %q: nobody can be asked", name, words)
		}
		given := strings.Fields(line)
		if at := slices.Index(given, "--"); at > 0 {
			want := strings.Split(strings.ReplaceAll(strings.Join(given[at+1:], "\n"), "␣", " "), "\n")
			if n := len(words) - len(want); n < 0 || !slices.Equal(words[n:], want) {
				t.Errorf("%s runs %q, and what was given is %q", name, words, want)
			}
		}
	}
}

func TestWhatAUnitHasByDefaultGivesWayToWhatIsGiven(t *testing.T) {
	const rule = "dbQuotaUsage > 0.8 || dbSize - dbSizeInUse > 200*MiB"
	for given, want := range map[string][]string{
		"systemd backup":                        {"backup", "--keep", "14"},
		"systemd backup -- --quiet":             {"backup", "--keep", "14", "--quiet"},
		"systemd backup -- --keep=3":            {"backup", "--keep=3"},
		"systemd defrag":                        {"defrag", "--yes", "--when", rule, "--min-reclaim", "10%"},
		"systemd defrag -- --min-reclaim=5%":    {"defrag", "--yes", "--min-reclaim=5%"},
		"systemd status":                        {"status", "--output", "prometheus", "--max-backup-age", "26h"},
		"systemd status -- --max-backup-age 7d": {"status", "--output", "prometheus", "--max-backup-age", "7d"},
		"cronjob backup --image i -- --verbose": {"backup", "--keep", "14", "--verbose"},
		"cronjob defrag --image i -- --wait=1m": {"defrag", "--yes", "--endpoints", "https://127.0.0.1:2379",
			"--cacert", "/etc/kubernetes/pki/etcd/ca.crt", "--cert", "/etc/kubernetes/pki/etcd/healthcheck-client.crt",
			"--key", "/etc/kubernetes/pki/etcd/healthcheck-client.key", "--when", rule, "--min-reclaim", "10%",
			"--wait=1m"},
	} {
		if got := commandIn(t, printed(t, "etcdpod units "+given)); !slices.Equal(got, want) {
			t.Errorf("%s: it runs %q", given, got)
		}
	}
}

// cronJob reads a CronJob as the API server does, and takes no field that it does not know.
func cronJob(t *testing.T, text string) (c batchv1.CronJob) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), &c); err != nil {
		t.Fatalf("it is no CronJob: %v\n%s", err, text)
	}
	return c
}

func TestAPodMayDoNoMoreThanItsCommandNeeds(t *testing.T) {
	for line, name := range someUnits() {
		if !strings.HasPrefix(name, "cronjob-") {
			continue
		}
		c := cronJob(t, printed(t, line))
		job := c.Spec.JobTemplate.Spec
		pod := job.Template.Spec
		if c.Spec.ConcurrencyPolicy != batchv1.ForbidConcurrent || *job.BackoffLimit != 0 ||
			job.ActiveDeadlineSeconds == nil || pod.RestartPolicy != corev1.RestartPolicyNever {
			t.Errorf("%s is begun otherwise than once at a time: %+v", name, c.Spec)
		}
		if *pod.AutomountServiceAccountToken || pod.HostPID || pod.HostIPC ||
			pod.HostNetwork != !strings.Contains(line, "--endpoints") {
			t.Errorf("%s shares with the node or the cluster: %+v", name, pod)
		}
		may := pod.Containers[0].SecurityContext
		if may.Privileged != nil || *may.AllowPrivilegeEscalation || !*may.ReadOnlyRootFilesystem ||
			len(may.Capabilities.Add) > 0 || !slices.Equal(may.Capabilities.Drop, []corev1.Capability{"ALL"}) ||
			pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s has the rights %+v", name, may)
		}
		host := map[string]string{}
		as := *cmp.Or(may.RunAsUser, pod.SecurityContext.RunAsUser)
		if (as == 0) == strings.Contains(line, "--secret") {
			t.Errorf("%s runs as %d", name, as)
		}
		for _, v := range pod.Volumes {
			if v.Secret != nil && v.Secret.SecretName == "etcd-client" && *v.Secret.DefaultMode == 0o440 {
				host[v.Name] = "/certs"
				continue
			}
			host[v.Name] = v.HostPath.Path
		}
		var writes []string
		for _, m := range pod.Containers[0].VolumeMounts {
			if host[m.Name] != m.MountPath {
				t.Errorf("%s: %s is %q in the pod, and %q on the node", name, m.Name, m.MountPath, host[m.Name])
			}
			delete(host, m.Name)
			if !m.ReadOnly {
				writes = append(writes, m.MountPath)
			}
		}
		want := map[string][]string{"cronjob-backup": {"/var/lib/etcdpod"},
			"cronjob-backup-node": {"/var/lib/etcdpod", "/mnt/s a"}}[name]
		if len(host) > 0 || !slices.Equal(writes, want) {
			t.Errorf("%s writes to %q, and does not use %v", name, writes, host)
		}
	}
}

func TestAUnitThatWouldNotWorkIsNotPrinted(t *testing.T) {
	long := strings.Repeat("a", 38)
	for line, want := range map[string]string{
		"systemd backup --keep 3":                              "it is a flag of backup: give it after --, at the end",
		"systemd backup -- --kep 3":                            "unknown flag --kep for backup",
		"systemd backup -- --keep 0":                           "--keep needs a number of backups",
		"systemd backup -- /mnt/b.db":                          "a unit takes no FILE",
		"systemd backup -- --dir backups":                      "--dir must be an absolute path",
		"systemd backup -- --dry-run":                          "--dry-run is not for a unit",
		"systemd backup -- --root /host":                       "--root is not for a unit",
		"systemd backup -- --from-data-dir /var/lib/etcd":      "--from-data-dir is not for a unit",
		"systemd backup -- --help":                             "etcdpod help backup",
		"systemd backup -- --cacert ca.crt":                    "--cacert must be an absolute path",
		"systemd backup -- -q -v":                              "cannot be combined",
		"systemd backup -- -o prometheus":                      "only status writes metrics",
		"systemd backup -- --cert /a.crt":                      "--cert and --key go together",
		"systemd backup -- --dir /a\u202eb":                    "characters that cannot be seen",
		"systemd backup --binary etcdpod":                      "--binary must be an absolute path",
		"systemd backup --only socket":                         "it is service or timer",
		"systemd backup -o json":                               "a unit is no JSON",
		"systemd backup -q -v":                                 "cannot be combined",
		"systemd defrag --yes":                                 "give it after --, at the end",
		"systemd defrag -- --when dbsize␣>␣1":                  "unknown name dbsize",
		"systemd defrag -- --wait 0s":                          "invalid value",
		"systemd status -- --watch":                            "--watch is not for a unit",
		"systemd status -- -o json":                            "--output is not for a unit",
		"systemd status -- --dir backups":                      "--dir must be an absolute path",
		"systemd status --textfile-dir metrics":                "--textfile-dir must be an absolute path",
		"systemd restore":                                      "units systemd needs one of: backup, defrag, status",
		"cronjob status":                                       "there is no CronJob for status",
		"cronjob status -- --max-backup-age 7d":                "etcdpod units systemd status",
		"cronjob backup --image i --schedule 0␣2␣*␣*":          "five fields",
		"cronjob backup --image i --schedule daily":            "five fields",
		"cronjob backup --image i␣j":                           "is not the name of an image",
		"cronjob backup --image i --node CP_1":                 "is not the name of a node",
		"cronjob backup --image i --node " + long:              "is longer than Kubernetes allows",
		"cronjob backup":                                       "give the image's name with --image",
		"cronjob defrag --image i --secret s":                  "--secret needs --endpoints",
		"cronjob defrag --image i --secret s -- --cacert /a":   "the pod has no file of the node",
		"cronjob defrag --image i --secret S -- --endpoints a": "is not the name of a Secret",
		"cronjob defrag --image i --node cp1":                  "it is a flag of units cronjob backup",
		"cronjob defrag --image i --endpoints a":               "give it after --",
	} {
		out, wrong, code := typed(t, "etcdpod units "+line)
		if code != exitUsage && (code != exitRefused || line != "cronjob backup") || out != "" ||
			!strings.Contains(strings.Join(strings.Fields(wrong), " "), want) {
			t.Errorf("%s ends with %d, not with %q: %s%s", line, code, want, wrong, out)
		}
	}
}

func TestTheImageIsCalledAsMakeDistCallsIt(t *testing.T) {
	for described, want := range map[string]string{
		"v1.2.3":                             "localhost/etcdpod:1.2.3",
		"v1.2.3-rc.1":                        "localhost/etcdpod:1.2.3-rc.1",
		"v1.2.3-14-g0123456789ab":            "localhost/etcdpod:1.2.3-14.g0123456789ab",
		"v1.2.3-rc.1-14-g0123456789ab-dirty": "localhost/etcdpod:1.2.3-rc.1-14.g0123456789ab.dirty",
		"0123456789ab":                       "localhost/etcdpod:0.0.0-g0123456789ab",
		"0123456789ab-dirty":                 "localhost/etcdpod:0.0.0-g0123456789ab.dirty",
		"v1.2.3-dirty":                       "localhost/etcdpod:1.2.3-dirty",
		"dev":                                "",
		"(devel)":                            "",
		"v0.0.0-20261130165106-d4d98f4e5563": "",
	} {
		if got := (build{Version: described}).image(); got != want {
			t.Errorf("the image of %s is called %q", described, got)
		}
	}
	t.Cleanup(func() { version = "" })
	version = "v1.2.3"
	if c := cronJob(t, printed(t, "etcdpod units cronjob defrag")); c.Spec.JobTemplate.Spec.Template.Spec.
		Containers[0].Image != "localhost/etcdpod:1.2.3" {
		t.Errorf("it is %+v", c)
	}
}

func TestSystemdTakesTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze on this machine (Debian: apt-get install systemd); make e2e installs it " +
			"for e2e/dist, whose tests hold the units to the same")
	}
	self, err := os.Executable() // it insists on a program that is there
	if err != nil {
		t.Fatal(err)
	}
	for line, name := range someUnits() {
		if !strings.HasPrefix(name, "unit-") {
			continue
		}
		dir, words := t.TempDir(), strings.SplitN(line, " -- ", 2)
		if words[0] += " --binary " + self; len(words) == 2 {
			words[1] = " -- " + words[1]
		}
		does := strings.Split(name, "-")[1]
		args := []string{"verify", "--man=no"}
		for _, kind := range []string{"service", "timer"} {
			file := filepath.Join(dir, "etcdpod-"+does+"."+kind)
			text := printed(t, words[0]+" --only "+kind+strings.Join(words[1:], ""))
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, file)
			if when := systemd.Setting(text, "OnCalendar"); kind == "timer" {
				if out, err := exec.Command(analyze, "calendar", when).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", when, err, out)
				}
			}
		}
		if out, err := exec.Command(analyze, args...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze verify of %s: %v\n%s", name, err, out)
		}
	}
}

func TestAUnitIsNotCutShortInSilence(t *testing.T) {
	args := []string{"etcdpod", "units", "systemd", "backup"}
	s := newSession(args, nil, full{}, full{}, func(string) string { return "" })
	if err := s.run(t.Context()); err == nil || exitCode(err) != exitFailed {
		t.Errorf("it ends with %v", err)
	}
}
