module millrace/go608

go 1.25

require github.com/Eyevinn/go-608 v0.6.0

require github.com/Eyevinn/mp4ff v0.54.0 // indirect
