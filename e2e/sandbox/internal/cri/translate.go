package cri

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (s *Server) rootfs(id string) string { return filepath.Join(s.containerDir(id), "rootfs") }

// command makes the process of a container: the image's binary, with the container's paths as this machine spells them.
func (s *Server) command(path string, c *container) *exec.Cmd {
	words := append(append([]string{}, c.Config.Command...), c.Config.Args...)
	view := view{root: s.root, rootfs: s.rootfs(c.ID), mounts: c.Config.Mounts}
	cmd := exec.Command(path)
	if len(words) > 0 {
		cmd.Args = append(words[:1], view.args(words[1:])...)
	}
	cmd.Dir = filepath.Join(view.rootfs, c.Config.WorkingDir)
	if err := os.MkdirAll(cmd.Dir, 0o755); err != nil {
		cmd.Err = err
	}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + view.rootfs}
	for _, env := range c.Config.Envs {
		cmd.Env = append(cmd.Env, env.Key+"="+view.value(string(env.Value), namesFile(env.Key)))
	}
	return cmd
}

// view is how a container sees paths.
type view struct {
	root, rootfs string
	mounts       []*runtimeapi.Mount
}

// args rewrites the paths in arguments of the forms --flag=path, --flag path and path, and lists of them with commas.
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

// value rewrites each path of a list. A path below no mount belongs to the container's own file system; whether it is one at all (and not
// the path of a URL or of keys) only the flag's name can tell.
func (v view) value(list string, file bool) string {
	items := strings.Split(list, ",")
	for i, item := range items {
		if !strings.HasPrefix(item, "/") {
			continue
		}
		clean := filepath.Clean(item)
		if mount := v.mountOf(clean); mount != nil {
			items[i] = filepath.Join(v.root, mount.HostPath, strings.TrimPrefix(clean, filepath.Clean(mount.ContainerPath)))
		} else if file {
			items[i] = filepath.Join(v.rootfs, clean)
		}
	}
	return strings.Join(items, ",")
}

func (v view) mountOf(path string) *runtimeapi.Mount {
	var best *runtimeapi.Mount
	for _, mount := range v.mounts {
		at := filepath.Clean(mount.ContainerPath)
		if (path == at || strings.HasPrefix(path, strings.TrimSuffix(at, "/")+"/")) && (best == nil || len(at) > len(best.ContainerPath)) {
			best = mount
		}
	}
	return best
}

func namesFile(flag string) bool {
	flag = strings.ToLower(strings.ReplaceAll(flag, "_", "-"))
	for _, end := range []string{"dir", "file", "kubeconfig", "-certificate", "-key", "-outputs"} {
		if strings.HasSuffix(flag, end) {
			return true
		}
	}
	return false
}
