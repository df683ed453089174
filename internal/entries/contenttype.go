package entries

// ContentType returns the content type of a file by the extension of its name,
// from the table that imports and exports use, and "application/octet-stream"
// for an extension that it does not have.
func ContentType(name string) string { return contentTypeOf(name) }
