#include <cstdio>
#include <cstdlib>
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>
#include <time.h>
struct Shape { virtual ~Shape(){} virtual double area(int) const=0; };
struct Sq: Shape { double s; Sq(double x):s(x){} __attribute__((noinline)) double area(int n) const override { double r=0; for(int i=0;i<n;i++) r+=s*i; return r; } };
struct Ci: Shape { double s; Ci(double x):s(x){} __attribute__((noinline)) double area(int n) const override { if(n%7==0) throw std::runtime_error("seven"); double r=0; for(int i=0;i<n;i++) r+=s/(i+1); return r; } };
static volatile double sink;
__attribute__((noinline)) void shapes(int k){ std::vector<std::unique_ptr<Shape>> v; for(int i=0;i<200;i++) if(i&1) v.emplace_back(new Sq(i)); else v.emplace_back(new Ci(i)); for(auto&p:v) try { sink=sink+p->area(k%100+3); } catch(const std::exception&e){ sink=sink+e.what()[0]; } }
__attribute__((noinline)) void sorts(int k){ std::vector<std::string> v; for(int i=0;i<2000;i++) v.push_back(std::to_string((i*7919+k)%10007)); std::sort(v.begin(),v.end(),[k](const std::string&a,const std::string&b){ return (k&1)? a<b : b<a; }); sink=sink+v[3].size(); }
__attribute__((noinline)) void maps(int k){ std::map<int,std::function<int(int)>> m; for(int i=0;i<500;i++) m[(i*31+k)%1009]=[i](int x){return x+i;}; int s=0; for(auto&[a,f]:m) s+=f(a); sink=sink+s; }
int main(int c,char**v){ double end=c>1?atof(v[1]):2; struct timespec t; int k=0; do { shapes(k); sorts(k); maps(k); k++; clock_gettime(CLOCK_THREAD_CPUTIME_ID,&t);} while(t.tv_sec+t.tv_nsec/1e9<end); printf("%g %d\n",(double)sink,k); }
