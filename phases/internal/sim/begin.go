package sim

// Begins lets an etcd without data begin a new cluster, and tells the kubelet of its manifest,
// which is not there yet.
func (m *Machine) Begins(manifest string) {
	m.begins = true
	m.known = append(m.known, manifest)
}

// WithoutKubelet makes the kubelet not run, and not start at boot.
func (m *Machine) WithoutKubelet() { m.kubelet, m.noKubelet = false, true }
