package sim

// Begins has an etcd that finds no data begin a new cluster, and the kubelet know its manifest,
// which is not there yet.
func (m *Machine) Begins(manifest string) {
	m.begins = true
	m.known = append(m.known, manifest)
}

// WithoutKubelet is a node on which none runs, and none is started at boot.
func (m *Machine) WithoutKubelet() { m.kubelet, m.noKubelet = false, true }
