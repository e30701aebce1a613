module example.com/gotables

go 1.20
