//go:build e2e

package machines

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// units has systemd run what the timers would have it run, with all restrictions, and holds what
// comes of it to what comes of the same on a root shell.
func (k *control) units() {
	k.Helper()
	k.part("a backup is taken by its unit", func(k *control) {
		k.install("backup", "")
		k.backup()
		here := k.sidecar()
		k.put("later") // for another revision, and so another name
		k.shell(k.node, "systemctl start etcdpod-backup.service")
		if unit := k.sidecar(); unit != here || !strings.Contains(unit, "/etc/kubernetes/pki/ca.crt") {
			k.Errorf("its sidecar says\n%s\nand that of one that was taken on a shell\n%s", unit, here)
		}
		k.install("backup", "-- --dir /var/lib/safe")
		k.shell(k.node, `mkdir -m 0700 /var/lib/safe /var/lib/other
			systemctl start etcdpod-backup.service
			ls /var/lib/safe/*.db`)
		// It may write nowhere else. That it is tried again later is called off.
		k.shell(k.node, `sed -i 's,--dir /var/lib/safe,--dir /var/lib/other,' \
				/etc/systemd/system/etcdpod-backup.service
			systemctl daemon-reload
			if timeout 60 systemctl start etcdpod-backup.service; then exit 1; fi
			systemctl show --property=ActiveState,SubState,Result,ExecMainStatus etcdpod-backup.service
			test "$(systemctl show --property=ExecMainStatus --value etcdpod-backup.service)" != 0
			systemctl stop etcdpod-backup.service
			test -z "$(ls /var/lib/other)"`)
	})
	k.part("the members are defragmented by its unit", func(k *control) {
		k.install("defrag", "-- --min-reclaim 0%")
		k.shell(k.node, `systemctl start etcdpod-defrag.service
			test "$(systemctl show --property=Result --value etcdpod-defrag.service)" = success`)
		k.Must(k.node.AwaitReady(k.Patiently()))
	})
	k.part("metrics are written by its unit, into the directory of another user", func(k *control) {
		k.install("status", "")
		k.shell(k.node, `mkdir -p /var/lib/prometheus/node-exporter
			chown nobody /var/lib/prometheus/node-exporter
			systemctl start etcdpod-status.service`)
		metrics := k.shell(k.node, "cat /var/lib/prometheus/node-exporter/etcdpod.prom")
		var codes []string
		for _, found := range regexp.MustCompile(`etcdpod_finding\{code="([^"]+)"`).FindAllStringSubmatch(metrics, -1) {
			codes = append(codes, found[1])
		}
		var status struct{ Findings []struct{ Code string } }
		out := k.shell(k.node, "etcdpod status -o json --max-backup-age 26h || test $? = 6")
		k.Must(json.Unmarshal([]byte(out), &status))
		var want []string
		for _, f := range status.Findings {
			want = append(want, f.Code)
		}
		slices.Sort(codes)
		slices.Sort(want)
		if !slices.Equal(slices.Compact(codes), slices.Compact(want)) ||
			!strings.Contains(metrics, "\netcdpod_etcd_up{") {
			k.Errorf("the findings are %q, and on a shell %q:\n%s", codes, want, metrics)
		}
	})
	k.shell(k.node, `systemctl stop etcdpod-backup.timer etcdpod-defrag.timer etcdpod-status.timer
		rm -r /etc/systemd/system/etcdpod-*
		systemctl daemon-reload`)
}

// install puts a unit where its comments say. What a boot of the host would start, which every
// service waits for, is not there on the rig's nodes.
func (k *control) install(does, flags string) {
	k.Helper()
	k.shell(k.node, fmt.Sprintf(`cd /etc/systemd/system
		for kind in service timer; do
			etcdpod units systemd %[1]s --binary "$(command -v etcdpod)" --only $kind %[2]s >etcdpod-%[1]s.$kind
			mkdir -p etcdpod-%[1]s.$kind.d
			printf '[Unit]\nDefaultDependencies=no\n' >etcdpod-%[1]s.$kind.d/rig.conf
		done
		systemctl daemon-reload
		systemctl start etcdpod-%[1]s.timer
		systemctl is-active etcdpod-%[1]s.timer`, does, flags))
}

// sidecar is what the newest backup's says that does not depend on when it was taken.
func (k *control) sidecar() string {
	k.Helper()
	return k.shell(k.node, `cat "$(ls -t /var/lib/etcdpod/backups/*.json | head -n 1)" | tr , '\n' |
		grep -E '"(node|clusterID|etcdVersion|source)"|/etc/kubernetes'`)
}
