package node

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// KubeletConfig is what etcdpod needs from the kubelet's configuration.
type KubeletConfig struct {
	StaticPodPath   string // host path, absolute; a directory, or one file
	StaticPodURL    string // another source of static pods; usually empty
	RuntimeEndpoint string // unix:///run/containerd/containerd.sock
	// What the kubelet is started with to reach the API server; empty: without, or it is not known.
	Kubeconfig, Bootstrap string
	// Hostname is what the kubelet takes for the host's name; empty: that itself.
	Hostname string
	// Fails is why a kubelet with all this would not start again, and Cure what to do; empty:
	// nothing tells so. UnitFails and UnitCure are the same of systemd, which starts it.
	Fails, Cure, UnitFails, UnitCure string
}

// Where kubeadm and its packages put the kubelet's configuration: cmd/kubeadm/app/constants and the
// unit's drop-in 10-kubeadm.conf.
const (
	kubeletConfig = "/var/lib/kubelet/config.yaml"
	// From kubeadm 1.32 on: this node's own runtime endpoint.
	instanceConfig  = "/var/lib/kubelet/instance-config.yaml"
	kubeadmFlags    = "/var/lib/kubelet/kubeadm-flags.env"
	defaultPods     = "/etc/kubernetes/manifests"
	defaultEndpoint = "unix:///run/containerd/containerd.sock"
)

// extraFlags are the files that the unit reads after kubeadm's: Debian's, then Red Hat's.
func extraFlags() []string { return []string{"/etc/default/kubelet", "/etc/sysconfig/kubelet"} }

// knownEndpoints are tried in this order if none is configured.
func knownEndpoints() []string {
	return []string{defaultEndpoint, "unix:///var/run/crio/crio.sock", "unix:///var/run/cri-dockerd.sock"}
}

// ReadKubeletConfig reads the kubelet's configuration in the kubelet's order: its file, its drop-in
// directory, this node's instance file, and flags, which win. A missing file is skipped, an
// unreadable one is an error, and what the others say is returned with it. What is not set gets
// kubeadm's default.
func ReadKubeletConfig(f Reader) (KubeletConfig, error) { return readKubeletConfig(f, "/proc") }

func readKubeletConfig(f Reader, proc string) (KubeletConfig, error) {
	flags, err := kubeletFlags(f, proc)
	config, need, unread := readFiles(f, flags)
	err = cmp.Or(err, unread)
	config.Fails, config.Cure = need.fails(f, flags)
	config.UnitFails, config.UnitCure = unitFails(f)
	set(&config.StaticPodPath, flags["pod-manifest-path"])
	set(&config.StaticPodURL, flags["manifest-url"])
	set(&config.RuntimeEndpoint, flags["container-runtime-endpoint"])
	config.Kubeconfig, config.Bootstrap = flags["kubeconfig"], flags["bootstrap-kubeconfig"]
	config.Hostname = strings.ToLower(strings.TrimSpace(flags["hostname-override"]))
	if config.StaticPodPath == "" {
		config.StaticPodPath = defaultPods
	}
	if !filepath.IsAbs(config.StaticPodPath) {
		err = cmp.Or(err, fmt.Errorf("cannot find the static pods: --pod-manifest-path=%s is relative to a directory "+
			"that is not known", config.StaticPodPath))
		config.StaticPodPath = defaultPods
	}
	if config.RuntimeEndpoint == "" {
		config.RuntimeEndpoint = foundEndpoint(f)
	}
	if filepath.IsAbs(config.RuntimeEndpoint) {
		config.RuntimeEndpoint = "unix://" + config.RuntimeEndpoint
	}
	return config, err
}

func set(to *string, value string) {
	if value != "" {
		*to = value
	}
}

// foundEndpoint returns the first known socket that exists, else the default: dialling it then
// reports that it is missing.
func foundEndpoint(f Reader) string {
	for _, endpoint := range knownEndpoints() {
		if st, err := stat(f, strings.TrimPrefix(endpoint, "unix://")); err == nil && st.Mode&fs.ModeSocket != 0 {
			return endpoint
		}
	}
	return defaultEndpoint
}

// readFiles returns what can be read, and why the first file that cannot be read could not.
func readFiles(f Reader, flags map[string]string) (config KubeletConfig, need needs, unread error) {
	file := kubeletConfig
	set(&file, flags["config"])
	paths := []string{file}
	if dir := flags["config-dir"]; dir != "" {
		below, err := dropIns(f, dir)
		if err != nil {
			unread = fmt.Errorf("cannot read the kubelet's configuration: %w", err)
		}
		paths = append(paths, below...)
	}
	if file == kubeletConfig { // kubeadm has put this into that
		paths = append(paths, instanceConfig)
	}
	for _, path := range paths {
		read, err := mergeFile(f, path, filepath.Dir(file), &config)
		unread = cmp.Or(unread, err)
		switch {
		case path == instanceConfig: // kubeadm reads it, and not the kubelet
		case path == file && flags["config"] == "": // it may be the kubelet's
			need.unread = cmp.Or(need.unread, err)
		default:
			need.merge(read, filepath.Dir(file), err)
		}
	}
	return config, need, unread
}

// dropIns are the files that the kubelet merges into its configuration, in its order: all .conf
// files below a directory (cmd/kubelet/app/server.go: mergeKubeletConfigurations).
func dropIns(f Reader, dir string) (files []string, err error) {
	names, err := f.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		at := filepath.Join(dir, name)
		if st, err := f.Lstat(at); err == nil && st.Mode.IsDir() {
			below, err := dropIns(f, at)
			if err != nil {
				return nil, err
			}
			files = append(files, below...)
		} else if filepath.Ext(name) == ".conf" {
			files = append(files, at)
		}
	}
	return files, nil
}

// configuration has the fields of a KubeletConfiguration that matter here
// (k8s.io/kubelet/config/v1beta1), so that changes in other fields do not matter.
type configuration struct {
	Kind                     string `json:"kind"`
	StaticPodPath            string `json:"staticPodPath"`
	StaticPodURL             string `json:"staticPodURL"`
	ContainerRuntimeEndpoint string `json:"containerRuntimeEndpoint"`
	FailSwapOn               *bool  `json:"failSwapOn"`
	TLSCertFile              string `json:"tlsCertFile"`
	TLSPrivateKeyFile        string `json:"tlsPrivateKeyFile"`
	Authentication           struct {
		X509 struct {
			ClientCAFile string `json:"clientCAFile"`
		} `json:"x509"`
	} `json:"authentication"`
}

// mergeFile takes over what a KubeletConfiguration sets. It ignores unknown fields, which a
// newer kubelet may have. A relative staticPodPath is relative to the directory of the main
// file (pkg/kubelet/kubeletconfig/configfiles).
func mergeFile(f Reader, path, base string, config *KubeletConfig) (read configuration, err error) {
	data, err := f.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return read, nil
	}
	if err == nil {
		err = yaml.Unmarshal(data, &read)
	}
	if err == nil && read.Kind != "" && read.Kind != "KubeletConfiguration" {
		err = fmt.Errorf("it is a %s, not a KubeletConfiguration", read.Kind)
	}
	if err != nil {
		return configuration{}, fmt.Errorf("cannot read the kubelet's configuration %s: %w", path, err)
	}
	if read.StaticPodPath != "" && !filepath.IsAbs(read.StaticPodPath) {
		read.StaticPodPath = filepath.Join(base, read.StaticPodPath)
	}
	set(&config.StaticPodPath, read.StaticPodPath)
	set(&config.StaticPodURL, read.StaticPodURL)
	set(&config.RuntimeEndpoint, read.ContainerRuntimeEndpoint)
	return read, nil
}

// readFlags reads the kubelet's flags from the environment files of kubeadm's
// unit; later files win.
func readFlags(f Reader) (map[string]string, error) {
	flags := map[string]string{}
	sources := []struct{ path, variable string }{{kubeadmFlags, "KUBELET_KUBEADM_ARGS"}}
	for _, path := range extraFlags() {
		sources = append(sources, struct{ path, variable string }{path, "KUBELET_EXTRA_ARGS"})
	}
	for _, source := range sources {
		data, err := f.ReadFile(source.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the kubelet's flags: %w", err)
		}
		words, err := variable(string(data), source.variable)
		if err != nil {
			return nil, fmt.Errorf("cannot read the kubelet's flags in %s: %w", source.path, err)
		}
		for name, value := range flagValues(words) {
			flags[name] = value
		}
	}
	return flags, nil
}

// variable finds the last setting of a variable in a systemd environment file and splits
// its value into words.
func variable(text, name string) ([]string, error) {
	// Once for the quotes around the value, once for the words in it.
	outer, err := SplitWords(settings(text)[name])
	if err != nil {
		return nil, err
	}
	return SplitWords(strings.Join(outer, " "))
}

// flagValues reads --name=value and --name value, with one dash or two; a flag without a
// value gets an empty one.
func flagValues(words []string) map[string]string {
	values := map[string]string{}
	for i, word := range words {
		flag, ok := strings.CutPrefix(word, "-")
		if !ok {
			continue
		}
		name, value, given := strings.Cut(strings.TrimPrefix(flag, "-"), "=")
		if !given && i+1 < len(words) && !strings.HasPrefix(words[i+1], "-") {
			value = words[i+1]
		}
		values[strings.ReplaceAll(name, "_", "-")] = value // as the kubelet reads it
	}
	return values
}
