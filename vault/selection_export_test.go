package vault

// Dir returns the directory of a vault.
func Dir(v *Vault) string { return v.dir }
