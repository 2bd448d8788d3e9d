// Package status reports the state of one node or several, what is wrong, and what to do next.
package status
