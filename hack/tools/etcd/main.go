// Command etcd is the etcd server. The upstream main package sits in a module
// whose replace directives keep it from being built as a dependency; this is
// the same three lines.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
