package seal_test

import (
	"fmt"

	"github.com/kistvault/kist/keys"
	"github.com/kistvault/kist/keys/seal"
)

// A record of the namespace "notes", sealed in epoch 1.
func Example() {
	root := keys.GenerateRoot() // from a key file
	tag := root.TagSecret().Tag("notes")
	key := seal.New(root.VaultID(), 1, tag, root.Epoch(1).Namespace(tag))

	blob, err := key.Seal(nil, &seal.Payload{
		Form:        seal.FormInline,
		HLC:         1795193940123 << 16,
		ContentType: "text/plain",
		Name:        "shopping",
		Value:       []byte("milk"),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(blob), "bytes, whatever is on the list")

	p, err := key.Open(blob)
	fmt.Printf("%s: %s, %v\n", p.Name, p.Value, err)

	blob[100] ^= 1
	_, err = key.Open(blob)
	fmt.Println(err)

	// Output:
	// 328 bytes, whatever is on the list
	// shopping: milk, <nil>
	// sealed data does not open: wrong key, or altered
}
