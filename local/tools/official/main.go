// The kubernetes plugin of Pulumi as its own main package starts it
// (https://github.com/pulumi/pulumi-kubernetes/tree/v4.25.0/provider/cmd/pulumi-resource-kubernetes).
// That package embeds files that its release generates, so the published module cannot build it. This one reads the
// files they are generated from, which local/tools.py keeps in the folder assets.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version"
)

func main() {
	schema := read("schema.json")
	// As generate.go of that package does.
	number := strings.TrimPrefix(version.Version, "v")
	schema = bytes.Replace(schema, []byte("{"), []byte(fmt.Sprintf(`{"version":%q,`, number)), 1)
	provider.Serve("kubernetes", number, schema, read("terraform-mapping.json"))
}

func read(name string) []byte {
	executable, err := os.Executable()
	if err == nil {
		executable, err = filepath.EvalSymlinks(executable)
	}
	var content []byte
	if err == nil {
		content, err = os.ReadFile(filepath.Join(
			filepath.Dir(executable), "assets", "cmd", "pulumi-resource-kubernetes", name))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pulumi-resource-kubernetes:", err)
		os.Exit(1)
	}
	return content
}
