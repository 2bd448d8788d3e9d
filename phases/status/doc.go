// Package status says how a node is, or several of them, what is wrong, and what to do next.
package status
