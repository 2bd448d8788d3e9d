package op

// Outage is an operation that tells how this node's API server fares: it may stop answering when
// the operation begins, or was seen to serve when it ended. What runs between the first of the
// former and the last of the latter is the time in which the API server is away.
type Outage interface {
	Outage() (stops, serves bool)
}

// Outage begins when the containers of etcd and the API server end.
func (s *StopContainers) Outage() (stops, serves bool) { return true, false }

// Outage begins with etcd's restart, too: without its etcd the API server answers nobody.
func (r *RestartPod) Outage() (stops, serves bool) { return !r.Back, false }

// Outage begins with etcd's end where the API server has no other.
func (e *EndPod) Outage() (stops, serves bool) { return e.API, false }

// Outage ends when the API server is ready.
func (a *AwaitAPIServer) Outage() (stops, serves bool) { return false, true }

// Outage is from the end of the old API server until the new one is ready.
func (a *AwaitReplaced) Outage() (stops, serves bool) { return !a.Back, !a.Back }

// Stops says whether an operation stops something that ran.
func Stops(o Op) bool {
	_, kubelet := o.(*StopKubelet)
	outage, can := o.(Outage)
	if kubelet || !can {
		return kubelet
	}
	stops, _ := outage.Outage()
	return stops
}
