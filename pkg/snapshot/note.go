package snapshot

// A Note is what an extraction wants to know when it next asks the vendor, such as the
// ETag of the response that the records came from.
type Note struct {
	// Selection identifies the settings that selected the records. A note is of no
	// use with others.
	Selection string `json:"selection"`
	Text      string `json:"text"`
}

// SetNote sets the note that the manifest will have. Reset removes it.
func (w *Writer) SetNote(note Note) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.info.Note = note
}
