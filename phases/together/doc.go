// Package together carries out one run on several nodes: it has the protocol between the
// coordinator and the agents, the barriers between phases, the commit on all nodes, and the rule on
// who may decide the fate of a run that was cut off. It carries out a [Joint], and knows no
// workflow itself.
package together
