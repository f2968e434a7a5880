// Package tour runs the commands of the README's tour, "Five minutes with kcat",
// word for word against the built binary, so that the page cannot rot.
//
// The blocks marked sh are read out of README.md. A line "streamhouse serve" is
// the first terminal: it is started and left running until a line kills it or
// the text before a block says "the broker stopped". Every other line is a
// command of the second terminal and must succeed; what some of them must print
// is in the test's table, and an entry that no command of the page matches fails
// the test as well.
//
// Two things are arranged around the commands, none in them: the binary is on
// the PATH, and so is a pgrep that finds the test's own broker and no other.
// They run in an empty folder and on the ports that the page names, or, where
// one of them is taken or COMPAT_TOUR_PORTS is "free", on two that are not, put
// in place of the page's.
package tour
