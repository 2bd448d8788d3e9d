// Package prune deletes what ended runs kept, when a person asks for it. Nothing else in etcdpod
// deletes a user's data.
package prune
