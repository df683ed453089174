package entries

import "strings"

// Content types that the formats give their entries.
const (
	typeVCard    = "text/vcard"
	typeCalendar = "text/calendar"
	typeJSON     = "application/json"
	typeCSV      = "text/csv"
	typeUnknown  = "application/octet-stream"
)

// types is the table of file extensions; of several for one type, the first is
// used for writing. It is part of the form of an exported tree, and so not the
// machine's: a change of a line changes what old trees mean, and needs a new
// version of [marker].
var types = []struct{ ext, contentType string }{
	{"vcf", typeVCard}, {"vcard", typeVCard},
	{"ics", typeCalendar}, {"ical", typeCalendar},
	{"json", typeJSON},
	{"ndjson", "application/x-ndjson"}, {"jsonl", "application/x-ndjson"},
	{"csv", typeCSV},
	{"txt", "text/plain"}, {"text", "text/plain"}, {"log", "text/plain"},
	{"md", "text/markdown"}, {"markdown", "text/markdown"},
	{"html", "text/html"}, {"htm", "text/html"},
	{"css", "text/css"},
	{"js", "text/javascript"},
	{"xml", "application/xml"},
	{"yaml", "application/yaml"}, {"yml", "application/yaml"},
	{"toml", "application/toml"},
	{"rtf", "application/rtf"},
	{"pdf", "application/pdf"},
	{"epub", "application/epub+zip"},
	{"eml", "message/rfc822"},
	{"mbox", "application/mbox"},
	{"gpx", "application/gpx+xml"},
	{"geojson", "application/geo+json"},
	{"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
	{"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
	{"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
	{"odt", "application/vnd.oasis.opendocument.text"},
	{"ods", "application/vnd.oasis.opendocument.spreadsheet"},
	{"odp", "application/vnd.oasis.opendocument.presentation"},
	{"png", "image/png"},
	{"jpg", "image/jpeg"}, {"jpeg", "image/jpeg"},
	{"gif", "image/gif"},
	{"webp", "image/webp"},
	{"svg", "image/svg+xml"},
	{"heic", "image/heic"},
	{"avif", "image/avif"},
	{"bmp", "image/bmp"},
	{"tiff", "image/tiff"}, {"tif", "image/tiff"},
	{"mp3", "audio/mpeg"},
	{"m4a", "audio/mp4"},
	{"ogg", "audio/ogg"},
	{"opus", "audio/opus"},
	{"flac", "audio/flac"},
	{"wav", "audio/wav"},
	{"mp4", "video/mp4"},
	{"webm", "video/webm"},
	{"mov", "video/quicktime"},
	{"zip", "application/zip"},
	{"gz", "application/gzip"},
	{"tar", "application/x-tar"},
	{"7z", "application/x-7z-compressed"},
	{"bin", typeUnknown},
}

var (
	typeOf = make(map[string]string) // extension → content type
	extOf  = make(map[string]string) // content type → extension to write
)

func init() {
	for _, t := range types {
		typeOf[t.ext] = t.contentType
		if extOf[t.contentType] == "" {
			extOf[t.contentType] = t.ext
		}
	}
}

// contentTypeOf returns the content type of a file, by its extension.
func contentTypeOf(name string) string {
	if t, ok := typeOf[extension(name)]; ok {
		return t
	}
	return typeUnknown
}

// extension returns the lower-case extension of a path, without dot.
func extension(name string) string {
	name = name[strings.LastIndexByte(name, '/')+1:]
	i := strings.LastIndexByte(name, '.')
	if i < 1 {
		return ""
	}
	return strings.ToLower(name[i+1:])
}

// ContentType returns the content type of a file by the extension of its name,
// from the table that imports and exports use, and "application/octet-stream"
// for an extension that it does not have.
func ContentType(name string) string { return contentTypeOf(name) }
