module github.com/fairway-lb/fairway

go 1.26.8
