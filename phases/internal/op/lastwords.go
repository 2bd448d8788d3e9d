package op

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// LastWords are the last error in the log of a container that ended.
type LastWords struct {
	Said string // the error itself
	Last bool   // it ended with that; otherwise it may have ended for another reason
	Why  string // what it means; empty: not known
	Do   string // what to do about it; empty: not known
	told bool   // it was told to exit
}

// String is one sentence, without its end; empty when the log tells nothing.
func (w LastWords) String() string {
	const found = "the last error in its log is: "
	switch {
	case w.Said == "":
		return ""
	case !w.Last && w.Why == "":
		return found + w.Said
	case !w.Last:
		return fmt.Sprintf("%s%s (%s: %s)", found, w.Said, w.Why, w.Do)
	case w.Why == "":
		return "it said: " + w.Said
	}
	return fmt.Sprintf("%s (%s): %s", w.Why, w.Said, w.Do)
}

// LogOf is the log of a container: where the runtime writes it, since the kubelet's podLogsDir can
// be set, or else its usual place (kubelet, pkg/kubelet/kuberuntime: BuildContainerLogsDirectory).
func LogOf(ctx context.Context, r Logs, c node.Container) string {
	if c.ID != "" {
		if file, err := r.LogFile(ctx, c.ID); err == nil && path.IsAbs(file) {
			return file
		}
	}
	return usualLog(c)
}

// Logs is a container runtime that knows where logs are.
type Logs interface {
	LogFile(ctx context.Context, id string) (string, error)
}

func usualLog(c node.Container) string {
	return path.Join("/var/log/pods", c.Namespace+"_"+c.Pod+"_"+c.PodUID, c.Name, strconv.Itoa(int(c.Attempt))+".log")
}

// LastWordsOf reads the log of a container that has ended. A log that is not there, or that cannot
// be read, tells nothing: it only explains what is known already.
func LastWordsOf(files node.Reader, log string) LastWords {
	text, err := endOf(files, log)
	if err != nil {
		return LastWords{}
	}
	return LastWordsIn(text)
}

// LastWordsIn is [LastWordsOf] for the end of what a program wrote.
func LastWordsIn(text string) LastWords {
	said, last, told := lastError(text)
	for _, m := range meanings() {
		for _, part := range m.parts {
			if strings.Contains(strings.ToLower(said), part) {
				return LastWords{said, last, m.why, m.do, told}
			}
		}
	}
	return LastWords{Said: said, Last: last, told: told}
}

// logEnd is how much of a log is looked at: more than a usage text or a stack trace.
const logEnd = 64 << 10

func endOf(files node.Reader, name string) (string, error) {
	f, err := files.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if s, ok := f.(io.Seeker); ok {
		if st, err := files.Lstat(name); err == nil && st.Size > logEnd {
			_, _ = s.Seek(-logEnd, io.SeekEnd) // if not, all of it is read
		}
	}
	var end []byte
	for buf := make([]byte, 16<<10); ; {
		n, err := f.Read(buf)
		if end = append(end, buf[:n]...); len(end) > 2*logEnd {
			end = end[len(end)-logEnd:]
		}
		if errors.Is(err, io.EOF) {
			return string(end), nil
		}
		if err != nil {
			return "", err
		}
	}
}

var (
	// criPrefix begins each line that the runtime writes: time, stream, and whether it is whole.
	criPrefix = regexp.MustCompile(`^\S+ (stdout|stderr) [FP] `)
	klogError = regexp.MustCompile(`^[EF]\d{4} \S+ +\d+ [^\]]+\] (.*)$`)
	klogCause = regexp.MustCompile(`err="((?:[^"\\]|\\.)*)"`)
)

// How much a line tells about why a program ended.
const (
	saysNothing = iota
	saysError
	saysPanic // etcd logs the reason before it panics
	saysEnd
	saysReason // one of reasons
)

// reasons are what a program ends for, at whatever level it says so, and whatever its parts log
// afterwards while they are closed. An etcd that was removed warns of it, and exits with 0; or it
// logs an error or two, and exits with 1, when its listeners find that it is stopping (etcd,
// server/etcdserver/server.go: run; server/embed/etcd.go: errHandler; 3.5 to 3.7).
func reasons() []string { return []string{leftForGood} }

const leftForGood = "the member has been permanently removed from the cluster"

// lastError picks the line of a log that says most, the last one of several, and says whether the
// program ended with that. One that was told to exit has no error of its own, unless it has said
// before why it ends: etcd 3.6 and 3.7 log some each time, as their listeners close.
func lastError(log string) (said string, last, told bool) {
	best := saysNothing
	for line := range strings.Lines(log) {
		line = plainLine(line)
		if toldToExit(line) {
			if best == saysReason {
				break
			}
			return "", false, true
		}
		if much, text := judgeLine(line); much > saysNothing && much >= best {
			best, said = much, text
		}
	}
	return printable(said), best > saysError, told
}

func toldToExit(line string) bool {
	return strings.Contains(line, "received signal; shutting down") ||
		strings.Contains(line, "[graceful-termination]") && !strings.Contains(line, "waiting for shutdown")
}

// What etcd says once it serves, and what Kubernetes' programs say before they are ready.
const (
	etcdServes    = "ready to serve client requests"
	etcdServes2   = "serving client traffic"
	listensAtOnce = "Serving securely on "
)

// beginning is how much of a log is searched for that.
const beginning = 4 << 20

// beginningOf is the beginning of a log; there is false if it cannot be read.
func beginningOf(files node.Reader, name string) (text string, there bool) {
	f, err := files.Open(name)
	if err != nil {
		return "", false
	}
	defer f.Close()
	all, err := io.ReadAll(io.LimitReader(f, beginning))
	return string(all), err == nil
}

// plainLine is what the program wrote. Runtimes that implement CRI put something before it, and
// Docker makes JSON of it (cri-dockerd has a link to that in the place of the log).
func plainLine(line string) string {
	line = strings.TrimRight(line, "\r\n")
	var docker struct{ Log string }
	if strings.HasPrefix(line, `{"log":`) && json.Unmarshal([]byte(line), &docker) == nil {
		return strings.TrimSpace(docker.Log)
	}
	return strings.TrimSpace(criPrefix.ReplaceAllString(line, ""))
}

// judgeLine knows the logs of etcd (zap, as JSON or for a console), of Kubernetes' programs (klog,
// and zap as JSON), and of the packages that read their flags.
func judgeLine(line string) (much int, text string) {
	var zap struct {
		Level, Msg, Error, Err string
		V                      *int // of Kubernetes' programs: it is no error
	}
	if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &zap) == nil {
		switch {
		case zap.Level != "":
			return judgeZap(zap.Level, zap.Msg, zap.Error)
		case zap.Err == "" || zap.V != nil:
			return saysNothing, ""
		case zap.Msg == commandFailed:
			return saysEnd, zap.Err
		}
		return judgeZap("error", zap.Msg, zap.Err)
	}
	if f := strings.Split(line, "\t"); len(f) > 3 && f[1] != "" { // time, level, …, message, fields
		last := len(f) - 1
		if json.Unmarshal([]byte(f[last]), &zap) == nil {
			last--
		}
		return judgeZap(f[1], f[last], zap.Error)
	}
	if m := klogError.FindStringSubmatch(line); m != nil {
		if cause := klogCause.FindStringSubmatch(m[1]); cause != nil && strings.Contains(m[1], commandFailed) {
			return saysEnd, cause[1]
		}
		return saysError, m[1]
	}
	for _, begin := range []string{
		"flag provided but not defined", "invalid value", "Error: ", "error verifying flags", "fatal error: ",
	} {
		if strings.HasPrefix(line, begin) {
			return saysEnd, strings.TrimPrefix(line, "Error: ")
		}
	}
	if text, ok := strings.CutPrefix(line, "panic: "); ok {
		return saysPanic, text
	}
	return saysNothing, ""
}

// commandFailed is the last line of Kubernetes' programs (k8s.io/component-base/cli).
const commandFailed = "command failed"

func judgeZap(level, message, cause string) (much int, text string) {
	if cause != "" {
		message += ": " + cause
	}
	if slices.ContainsFunc(reasons(), func(reason string) bool { return strings.Contains(message, reason) }) {
		return saysReason, message
	}
	return map[string]int{"fatal": saysEnd, "panic": saysEnd, "error": saysError}[level], message
}

// printable keeps a line short, and a terminal as it is.
func printable(text string) string {
	const most = 300
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, text)
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}

// meaning is what an error means for who looks after the node.
type meaning struct {
	parts   []string // of the error in lower case; one is enough
	why, do string
}

// reread is for who edits a manifest. What it runs then is another pod, which the kubelet starts
// once the one before has ended; and as long as no API server has answered since it was started, it
// ends none (kubelet, pkg/kubelet/pod_workers.go: allowStaticPodStart, and kubelet.go: deletePod).
// A new kubelet knows of one only.
const reread = "; then restart the kubelet"

// What a log knows of its etcd's files.
const (
	etcdsManifest = "etcd's manifest"
	ownData       = "its data directory"
)

// JoinAgain is how an etcd whose data must go becomes a new member. manifest is what starts it;
// empty: nothing does any more. member is its id in the cluster; empty: it has left. The manifest
// goes first, since the kubelet starts etcd again and again: on no data, one that kubeadm made the
// first member begins a cluster of its own, which its API server takes for the real one. The data
// is kept: nobody knows yet that it is not needed.
func JoinAgain(manifest, data, member string) string {
	steps := fmt.Sprintf("move away what is in %s", data)
	if manifest != "" {
		steps = fmt.Sprintf("move %s out of its directory, wait until etcd has exited, and %s", manifest, steps)
	}
	if member == "" {
		return steps + "; then run `etcdpod join` here"
	}
	return fmt.Sprintf("%s; run `etcdpod remove %s` on another member, then `etcdpod join` here", steps, member)
}

// LeaveOrJoin is what to do on the node of a member that has left its cluster.
func LeaveOrJoin(manifest, data string) string {
	return "run `kubeadm reset` here; or, to bring it back as a new member, " + JoinAgain(manifest, data, "")
}

// meanings are tried in order.
func meanings() []meaning {
	return []meaning{
		{[]string{"no space left on device", "disk quota exceeded"},
			"its disk is full", "free some space on the file system of its data"},
		{[]string{"has already been bootstrapped", "tocommit("},
			"the cluster knows this member, but its data directory was emptied or holds older data than before",
			"bring it back as a new member: " + JoinAgain(etcdsManifest, ownData, "ID")},
		{reasons(),
			"it was removed from its cluster", LeaveOrJoin(etcdsManifest, ownData)},
		{[]string{"flag provided but not defined", "unknown flag", "unknown shorthand flag"},
			"it does not know one of its flags",
			"remove the flag from the manifest, or spell it as this version does" + reread},
		{[]string{"invalid value", "parse error", "error verifying flags", "invalid argument"},
			"one of its flags has a value that it cannot use", "correct it in the manifest" + reread},
		{[]string{"address already in use"},
			"another program is listening at its address", "find it with `ss -ltnp`, and stop it"},
		{[]string{"cannot assign requested address"},
			"no interface of this node has the address that it should listen on",
			"correct the address in the manifest" + reread},
		{[]string{"x509:", "tls:", "bad certificate", "certificate has expired", "private key does not match",
			".crt: no such file", ".key: no such file", ".pem: no such file", "failed to find any pem data"},
			"a certificate is rejected or missing", "`etcdpod certs check` shows which; `etcdpod certs renew` renews " +
				"those of etcd and its clients"},
		{[]string{"permission denied", "operation not permitted", "read-only file system"},
			"it is denied access to one of its files", "restore the owner and mode of that file; check whether its " +
				"disk is mounted read-only"},
		{[]string{"invalid downgrade", "storage version", "cannot downgrade", "higher than the server"},
			"its data is from a newer etcd", "put back the image that it had" + reread},
		{[]string{"cluster id mismatch", "member count is unequal", "couldn't find local name", "error validating " +
			"peerurls",
			"unmatched member", "does not match the member"},
			"its flags list other members than its cluster has", "compare --name, --initial-cluster and its peer " +
				"URL with " +
				"`etcdpod status` on a node that serves"},
		{[]string{"crc mismatch", "failed to open database", "invalid database", "walpb", "wal: ", "open " +
			"wal", "read wal", "does not match with snapshot",
			"from snapshot", "freepages", "state.commit", "database file", "snapshot file", "input/output error",
			"fault address", "failed to restore", "corrupt", "unexpected eof", "bolt"},
			"its data cannot be read", "save what is intact with `etcdpod backup --from-data-dir`; then restore a " +
				"backup, or, if other members serve, bring it back as a new member: " +
				JoinAgain(etcdsManifest, ownData, "ID")},
		{[]string{"connection refused", "deadline exceeded", "error while dialing", "no route to host"},
			"it cannot reach something that it needs", "check whether etcd serves: run `etcdpod status`"},
		{[]string{"no such file or directory"},
			"a file named in its flags is missing", "put the file back, or correct the flag in the manifest" + reread},
	}
}
