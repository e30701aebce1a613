package memmap

// An Explanation says what a word in a table means and where the number is from.
type Explanation struct {
	Name   string `json:"name"`
	Text   string `json:"text"`
	Source string `json:"source"`
}

// Explanations are those of the columns, in the order of Columns.
func Explanations() []Explanation {
	return []Explanation{
		{"Size", "addresses that are reserved", "end less start of the mapping in /proc/PID/smaps"},
		{"Committed", "of Size, what may be accessed: not what is only reserved (PROT_NONE)", "protection in smaps"},
		{"Private", "of Committed, what is the process's own: private and writable, or without a file; counted whether touched or not", "protection and inode in smaps"},
		{"Total WS", "resident: what is in RAM now; the sum over all regions is VmRSS", "Rss in smaps"},
		{"Private WS", "of Total WS, pages that cannot be shared: written to, or without a file", "Anonymous in smaps, of private mappings"},
		{"Shareable WS", "of Total WS, pages that other processes could have too, whether they do or not", "Total WS less Private WS"},
		{"Shared WS", "of Total WS, pages that another process has too at this time", "Shared_Clean and Shared_Dirty in smaps"},
		{"Locked WS", "of Total WS, what may not be swapped (mlock)", "Locked in smaps"},
		{"Pss", "each resident page divided by how many processes have it: sums over processes make sense", "Pss in smaps"},
		{"Swap", "what was moved to swap space", "Swap in smaps"},
		{"Huge", "in pages of 2 MB or more; those of hugetlbfs are not in Total WS", "AnonHugePages, ShmemPmdMapped, FilePmdMapped, *_Hugetlb in smaps"},
		{"Dirty", "of Total WS, pages that were written to and would have to be written somewhere to be dropped", "Shared_Dirty and Private_Dirty in smaps"},
		{"Blocks", "how many mappings, or pieces of mappings, it is made of", "/proc/PID/smaps"},
		{"Largest", "size of the largest region of the kind; of Free, the largest gap", "/proc/PID/smaps"},
	}
}

// KindExplanations are those of the kinds, in the order of Kinds.
func KindExplanations() []Explanation {
	return []Explanation{
		{string(Image), "programs and libraries with all their segments and their bss, and the kernel's [vdso]", "files with a mapping that may be executed; bss by their program headers"},
		{string(MappedFile), "other files", "mappings with an inode"},
		{string(Shareable), "shared memory without a file of its own: memfd, /dev/shm, System V, shared anonymous, rings", "shared mappings, by their names"},
		{string(Heap), "of malloc: the main arena, other arenas, large blocks; of other allocators where they can be told", "[heap]; what glibc wrote at the beginning of its arenas and blocks; names of mappings"},
		{string(ManagedHeap), "arenas of the Go runtime, with objects and stacks of goroutines", "the runtime's own list; names of mappings"},
		{string(RuntimeMetadata), "the Go runtime's own tables", "the runtime's own pointers; names of mappings"},
		{string(Stack), "of threads, each with its guard", "[stack]; stack pointers of threads; what glibc wrote at the end of stacks"},
		{string(PrivateData), "other memory without a file", "what is left"},
		{string(PageTable), "the kernel's tables for the process; outside of its addresses, and in no sum", "VmPTE in /proc/PID/status"},
		{string(Free), "gaps between regions; in no sum", "up to the end of a 47-bit address space"},
	}
}
