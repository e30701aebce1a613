package memmap

// A Cluster is a part of the address space with regions close together: what is between clusters is
// free for more than clusterGap.
type Cluster struct {
	Start      uint64 `json:"start"`
	End        uint64 `json:"end"`
	Regions    int    `json:"regions"`
	Used       int64  `json:"used"` // bytes of its regions
	Free       int64  `json:"free"` // between them
	Gaps       int    `json:"gaps"`
	LargestGap int64  `json:"largestGap"`
	// Cells cut the cluster into equal parts: the kind that has most of each, Free where that is
	// nothing.
	Cells []Cell `json:"cells"`
}

// A Cell is an equal part of a cluster.
type Cell struct {
	Kind     Kind    `json:"kind"`
	Resident float64 `json:"resident"` // share of it that is resident, 0 to 1
}

// clusterGap is how much free space parts two clusters.
const clusterGap = 1 << 30

// Clusters are the parts of the address space that are in use, in order of address, each cut into
// cells, of which there is at least one. What is only reserved, in large, counts as free.
func (s *Snapshot) Clusters(cells int) []Cluster {
	cells = max(cells, 1)
	var regions []Region
	for _, r := range s.Regions {
		if r.Committed > 0 || r.Size < clusterGap {
			regions = append(regions, r)
		}
	}
	all := []Cluster{}
	for i := 0; i < len(regions); {
		j := i + 1
		for j < len(regions) && regions[j].Start-regions[j-1].End < clusterGap {
			j++
		}
		all = append(all, clusterOf(regions[i:j], cells))
		i = j
	}
	return all
}

func clusterOf(regions []Region, cells int) Cluster {
	c := Cluster{Start: regions[0].Start, End: regions[len(regions)-1].End, Regions: len(regions)}
	cells = int(min(uint64(cells), (c.End-c.Start+pageSize-1)/pageSize))
	width := float64(c.End-c.Start) / float64(cells)
	kinds := make([]map[Kind]float64, cells)
	resident := make([]float64, cells)
	for i := range regions {
		r := &regions[i]
		c.Used += r.Size
		if i > 0 {
			if gap := int64(r.Start - regions[i-1].End); gap > 0 {
				c.Free += gap
				c.Gaps++
				c.LargestGap = max(c.LargestGap, gap)
			}
		}
		share := func(start, end uint64, rss int64) {
			from, to := float64(start-c.Start)/width, float64(end-c.Start)/width
			for k := int(from); k < cells && float64(k) < to; k++ {
				part := min(to, float64(k+1)) - max(from, float64(k))
				if part <= 0 {
					continue
				}
				if kinds[k] == nil {
					kinds[k] = map[Kind]float64{}
				}
				kinds[k][r.Kind] += part
				resident[k] += part * float64(rss) / float64(end-start)
			}
		}
		if len(r.Parts) == 0 {
			share(r.Start, r.End, r.Resident)
		}
		for _, p := range r.Parts {
			share(p.Start, p.End, p.Resident)
		}
	}
	c.Cells = make([]Cell, cells)
	for k := range c.Cells {
		best, most := Free, 0.0
		for _, kind := range Kinds {
			if kinds[k][kind] > most {
				best, most = kind, kinds[k][kind]
			}
		}
		c.Cells[k] = Cell{best, min(resident[k], 1)}
	}
	return c
}

// GoFree is how much of the Go heap's spans is free, live and garbage, by size class, and in all.
func (s *Snapshot) GoFree() (free, bytes int64) {
	for _, c := range s.Classes {
		free += c.Free * c.SlotSize
		bytes += c.Bytes
	}
	return free, bytes
}
