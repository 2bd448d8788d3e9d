// Package members makes nodes members of an etcd cluster: the first one (init), and further ones
// (join). It lists the members (members), has another one lead, and changes where one is reached.
package members
