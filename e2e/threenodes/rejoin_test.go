//go:build e2e

package threenodes

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestOneMemberIsRestoredAndTheOthersJoinIt(t *testing.T) {
	k := take(t)
	s := k.scene()
	w := k.before(s)
	k.want(0, k.nodes[0], k.restore(s, "--rejoin")...)
	k.be(wholeNew, w)
	k.allClosed()
	k.keep(w)
}

func TestARejoinThatIsCutOffIsFinished(t *testing.T) {
	k := take(t)
	s := k.scene()
	for _, trial := range []trial{
		{point{"cp2", "exchange-data", 1}, killAgent, rollback},
		{point{"cp2", "rejoin", 1}, killCoordinator, resume},
		{point{"cp3", "rejoin", 3}, reboot, resume},
	} {
		t.Run(trial.String(), func(t *testing.T) {
			k := k.with(t)
			w := k.before(s)
			code := k.cutOff(s, trial, "--rejoin")
			_, in := k.end(trial, s, code)
			k.be(in, w)
			k.allClosed()
			if in == wholeNew {
				k.keep(w)
			}
		})
	}
}

// keep insists that every node still has what its last run replaced: the old cluster's data, whole.
func (k *cluster) keep(w worlds) {
	k.Helper()
	for _, n := range k.nodes {
		data := k.lastRun(n).Path + "/data"
		lines := strings.Split(strings.TrimSpace(k.want(0, n,
			"backup", "--output", "json", "--from-data-dir", data, data+".db").stdout), "\n")
		var made struct {
			Result struct {
				ClusterID string
				Keys      int
			}
		}
		k.Must(json.Unmarshal([]byte(lines[len(lines)-1]), &made))
		if old := fmt.Sprintf("%x", w.cluster); made.Result.ClusterID != old || made.Result.Keys == 0 {
			k.Errorf("%s keeps %d keys of cluster %s, and the old one was %s",
				n.Name, made.Result.Keys, made.Result.ClusterID, old)
		}
	}
}
