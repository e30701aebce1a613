package goruntime
import ("testing";"os";"time";"fmt";"strconv";"context";"sort";"runtime")
func TestZZ(t *testing.T){
 pid,_:=strconv.Atoi(os.Getenv("ZZPID"))
 exe:=fmt.Sprintf("/proc/%d/exe",pid)
 f,err:=os.Open(exe); if err!=nil{t.Fatal(err)}
 m,err:=os.Open(fmt.Sprintf("/proc/%d/mem",pid)); if err!=nil{t.Fatal(err)}
 for rep:=0;rep<2;rep++{
 t0:=time.Now()
 r,err:=Open(f,0,m); if err!=nil{t.Fatal(err)}
 t.Log("open",time.Since(t0), r.Layout)
 t1:=time.Now(); last:=t1; lw:=""
 path,_:=os.Readlink(exe)
 if os.Getenv("NOPATH")!=""{path=""}
 h,err:=r.Heap(context.Background(),HeapOptions{Path:path,Waste:os.Getenv("WASTE")!="",Progress:func(s string,x float64){t.Log("   ",lw,time.Since(last));last=time.Now();lw=s}})
 if err!=nil{t.Fatal(err)}
 t.Log("heap",time.Since(t1))
 t2:=time.Now()
 first:=[]uint32{0}; to:=[]uint32{0}; 
 first=make([]uint32,1,h.Len()+2)
 lab:=map[uint32]int{}
 labs:=[]uint32{0}
 err=References(context.Background(),h,func(f uint32,end []uint32,tt []uint32,fl []uint32){
   base:=uint32(len(to))
   if int(f)!=len(first){t.Fatal("order",f,len(first))}
   prev:=uint32(0)
   for _,e:=range end { first=append(first,base+prev); prev=e }
   to=append(to,tt...); labs=append(labs,fl...)
 })
 first=append(first,uint32(len(to)))
 t.Log("refs",time.Since(t2),err,len(to),h.Len())
 t.Log("TOTAL",time.Since(t0))
 for _,l:=range labs{lab[l]++}
 // mark
 live:=make([]bool,h.Len()+1); var q []uint32
 for _,x:=range h.RootReferences{ if !live[x.Object]{live[x.Object]=true;q=append(q,x.Object)}}
 for len(q)>0{ x:=q[len(q)-1];q=q[:len(q)-1]; for _,y:=range to[first[x]:first[x+1]]{ if !live[y]{live[y]=true;q=append(q,y)}}}
 var lb,ln,tb,tn int64; i:=1; by:=map[uint32][2]int64{}
 unt:=map[uint64][2]int64{}
 ex:=map[uint64]uint64{}
 h.Objects(func(a,s uint64,ty uint32){ if live[i]{lb+=int64(s);ln++; if ty!=0{tb+=int64(s);tn++}else{u:=unt[s];u[0]++;u[1]+=int64(s);unt[s]=u;ex[s]=a}; v:=by[ty];v[0]++;v[1]+=int64(s);by[ty]=v}; i++})
 t.Logf("live %d (%d bytes) of %d (%d); typed %.3f%% bytes %.3f%% objects; unread %d cons %d contra %d; roots %d refs %d gs %d samples %d stacks %d rate %d marked %d segs %d vars %d",ln,lb,h.Len(),h.Allocated,100*float64(tb)/float64(lb),100*float64(tn)/float64(ln),h.Unread,h.Conservative,h.Contradicted,len(h.Roots),len(h.RootReferences),len(h.Goroutines),len(h.Samples),len(h.SampleStacks),h.SampleRate,h.Marked,len(h.segments),len(h.variables))
 t.Log(h.Lost)
 if rep==0 {continue}
 var keys []uint32; for k:=range by{keys=append(keys,k)}
 sort.Slice(keys,func(i,j int)bool{return by[keys[i]][1]>by[keys[j]][1]})
 for _,k:=range keys[:min(40,len(keys))]{t.Logf("%8d %10d  %+v",by[k][0],by[k][1],h.Types[k])}
 for k,v:=range unt {t.Log("untyped size",k,v,fmt.Sprintf("%x",ex[k]))}
 var ls []uint32; for k:=range lab{ls=append(ls,k)}
 sort.Slice(ls,func(i,j int)bool{return lab[ls[i]]>lab[ls[j]]})
 for _,k:=range ls[:min(25,len(ls))]{t.Log(lab[k],h.Fields[k])}
 n:=map[string]int{}
 for _,x:=range h.RootReferences{y:=h.Roots[x.Root]; n[fmt.Sprintf("%d %s | %s %s:%d",y.Kind,y.Name,h.Fields[x.Field],y.File,y.Line)]++}
 var ns []string; for k:=range n{ns=append(ns,k)}
 sort.Slice(ns,func(i,j int)bool{return n[ns[i]]>n[ns[j]]})
 for _,k:=range ns[:min(60,len(ns))]{t.Log(n[k],k)}
 for _,g:=range h.Goroutines[:min(8,len(h.Goroutines))]{t.Logf("%+v",g)}
 for _,s:=range h.SampleStacks[:min(3,len(h.SampleStacks))]{t.Logf("%+v",s)}
 for _,w:=range h.Waste[:min(30,len(h.Waste))]{t.Logf("%+v %+v",w,h.Types[w.Type])}
 }
 var ms runtime.MemStats; runtime.ReadMemStats(&ms); t.Log(ms.HeapAlloc>>20,ms.Sys>>20)
}
