package cri

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/hostpath"
)

func (s *Server) rootfs(id string) string { return filepath.Join(s.containerDir(id), "rootfs") }

// command makes the process of a container: the image's binary, with container paths
// translated to this machine's.
func (s *Server) command(path string, c *container) (*exec.Cmd, error) {
	words := append(append([]string{}, c.Config.Command...), c.Config.Args...)
	view := view{rootfs: s.rootfs(c.ID)}
	for _, mount := range c.Config.Mounts {
		source, err := hostpath.Resolve(s.root, mount.HostPath)
		if err != nil {
			return nil, err
		}
		view.mounts = append(view.mounts, bind{at: filepath.Clean(mount.ContainerPath), source: source})
	}
	cmd := exec.Command(path)
	if len(words) > 0 {
		cmd.Args = append(words[:1], view.args(words[1:])...)
	}
	cmd.Dir = filepath.Join(view.rootfs, c.Config.WorkingDir)
	if err := os.MkdirAll(cmd.Dir, 0o755); err != nil {
		return nil, err
	}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + view.rootfs}
	for _, env := range c.Config.Envs {
		cmd.Env = append(cmd.Env, env.Key+"="+view.value(string(env.Value), namesFile(env.Key)))
	}
	return cmd, nil
}

// view is how a container sees paths: its bind mounts, and below them its own file system.
type view struct {
	rootfs string
	mounts []bind
}

// bind shows source, a path of this machine, at a path in the container.
type bind struct{ at, source string }

// args rewrites the paths in arguments of the forms --flag=path, --flag path and path, and in
// comma-separated lists.
func (v view) args(words []string) []string {
	out := make([]string, len(words))
	flag := ""
	for i, word := range words {
		name, value, hasValue := strings.Cut(word, "=")
		switch {
		case strings.HasPrefix(word, "-") && hasValue:
			out[i], flag = name+"="+v.value(value, namesFile(name)), ""
		case strings.HasPrefix(word, "-"):
			out[i], flag = word, name
		default:
			out[i], flag = v.value(word, namesFile(flag)), ""
		}
	}
	return out
}

// value rewrites each path of a list. A path below no mount belongs to the container's
// own file system; only the flag's name can tell whether it is one at all (and not the
// path of a URL or of keys).
func (v view) value(list string, file bool) string {
	items := strings.Split(list, ",")
	for i, item := range items {
		if !strings.HasPrefix(item, "/") {
			continue
		}
		clean := filepath.Clean(item)
		if mount := v.mountOf(clean); mount != nil {
			items[i] = filepath.Join(mount.source, strings.TrimPrefix(clean, mount.at))
		} else if file {
			items[i] = filepath.Join(v.rootfs, clean)
		}
	}
	return strings.Join(items, ",")
}

// mountOf returns the innermost mount that holds the path, nil if there is none.
func (v view) mountOf(path string) *bind {
	var best *bind
	for i, mount := range v.mounts {
		if (path == mount.at || strings.HasPrefix(path, strings.TrimSuffix(mount.at, "/")+"/")) &&
			(best == nil || len(mount.at) > len(best.at)) {
			best = &v.mounts[i]
		}
	}
	return best
}

// namesFile says whether a flag or variable of that name holds a file's path, judging by the names
// in etcd and Kubernetes.
func namesFile(flag string) bool {
	flag = strings.ToLower(strings.ReplaceAll(flag, "_", "-"))
	for _, end := range []string{"dir", "file", "kubeconfig", "-certificate", "-key", "-outputs"} {
		if strings.HasSuffix(flag, end) {
			return true
		}
	}
	return false
}
