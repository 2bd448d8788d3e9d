package snapfile

// Beside does something in a goroutine of its own, and done is closed when it has. wait waits for
// it. If it panics, so does wait: in a goroutine of its own, a panic would end the program where
// nobody can say how things stand.
func Beside(do func()) (done <-chan struct{}, wait func()) {
	ended := make(chan struct{})
	var panicked any
	go func() {
		defer close(ended)
		defer func() { panicked = recover() }()
		do()
	}()
	return ended, func() {
		if <-ended; panicked != nil {
			panic(panicked)
		}
	}
}
