module payments-go

go 1.26
