package convert

// formats are in the order in which a file is tried: those with a magic number or a root element
// first, those that are recognized by a line of text later, and those that are recognized by little
// last.
var formats = []*format{
	perfData,
	pprof,
	speedscope,
	firefox,
	chrome,
	perfview,
	perfScript,
	otlp,
	strace,
	collapsed,
	svg,
}
