// Command width finds lines of this repository that are too wide to read: Go beyond 120 columns,
// comments and Markdown beyond 100. Without arguments it looks at everything below the working
// directory, and otherwise at the files and directories that are named.
package main

import (
	"fmt"
	"os"
)

func main() {
	roots := os.Args[1:]
	if len(roots) == 0 {
		roots = []string{"."}
	}
	var all []finding
	for _, root := range roots {
		found, err := look(root)
		if err != nil {
			fmt.Fprintln(os.Stderr, "width:", err)
			os.Exit(2)
		}
		all = append(all, found...)
	}
	for _, f := range all {
		fmt.Println(f)
	}
	if len(all) > 0 {
		fmt.Fprintf(os.Stderr,
			"%d lines are too wide: wrap comments and Markdown at %d columns, and code at %d, with tabs of %d\n",
			len(all), textLimit, codeLimit, tabWidth)
		os.Exit(1)
	}
}

func look(root string) ([]finding, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return tree(root)
	}
	return file(root, root)
}
