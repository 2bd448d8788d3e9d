// Package crashtest is the crash matrix, for tests only. A workflow provides how its node is made,
// how its run goes, and what wholly old and wholly new mean ([Case]). The matrix stops the run
// before, between and after all system calls, in every way, settles it with `resume` and with
// `rollback`, and then cuts the power. A workflow on several nodes provides the same for each of
// them ([Together]), and is explored with up to two faults. The package also settles the runs that
// earlier versions left open.
package crashtest
