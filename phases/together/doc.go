// Package together carries out one run on several nodes: the wire between the coordinator and the
// agents, barriers between phases, the commit on all nodes, and who may decide what becomes of a
// run that was cut off. What is carried out is a [Joint]: it knows no workflow of its own.
package together
