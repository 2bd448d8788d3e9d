// Package upgrade looks ahead at an upgrade of etcd, whether it would end well, and what would have
// to be done first; and carries it out.
//
// Each node says what it is like (Seen), the members say what they are (members.Ask), and from both
// a Plan is judged for each version. Together carries out one that would end well, as a joint
// workflow: what must hold meanwhile stands in carry.go.
package upgrade
