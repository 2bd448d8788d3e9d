// Package crashtest is the crash matrix, for tests only. A workflow hands over how its node is
// made, how its run goes and what wholly old and wholly new mean ([Case]), and is stopped before,
// between and after all system calls, in every way, settled by `resume` and by `rollback`, and then
// loses its power. A workflow on several nodes hands over the same of each of them ([Together]),
// and is explored with up to two faults. It also settles the runs that earlier versions left open.
package crashtest
