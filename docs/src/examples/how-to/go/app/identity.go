package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log"
	"os"
	"path/filepath"
	"sync"
)

const directory = "/var/run/secrets/certmint.dev"

// Identity is one version of this pod's certificate, and whom it trusts.
type Identity struct {
	Version     string
	Certificate tls.Certificate
	Roots       *x509.CertPool
}

// Source reads the files that Certmint keeps in the pod, again when they were renewed.
type Source struct {
	mutex   sync.Mutex
	current *Identity
}

// Current is the newest identity, for the next connection.
func (s *Source) Current() (*Identity, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	newest, err := s.newest()
	if err == nil {
		s.current = newest
	} else if s.current != nil {
		// Replaced again at this very moment: the next connection finds it.
		log.Printf("keeping the certificate read before: %v", err)
	} else {
		return nil, err
	}
	return s.current, nil
}

func (s *Source) newest() (*Identity, error) {
	// tls.crt is a link into a directory that is replaced as a whole. Where it leads to is the version, and what is
	// read there belongs together.
	path, err := filepath.EvalSymlinks(filepath.Join(directory, "tls.crt"))
	if err != nil {
		return nil, err
	}
	version := filepath.Dir(path)
	if s.current != nil && s.current.Version == version {
		return s.current, nil
	}
	if s.current != nil {
		log.Print("reading the renewed certificate")
	}
	certificate, err := tls.LoadX509KeyPair(path, filepath.Join(version, "tls.key"))
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(filepath.Join(version, "ca.crt"))
	if err != nil {
		return nil, err
	}
	// A pool of our own: the certificate authorities of the operating system are not trusted.
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in ca.crt")
	}
	return &Identity{Version: version, Certificate: certificate, Roots: roots}, nil
}
