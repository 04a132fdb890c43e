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

// Identity is one version of this pod's certificate and its trusted roots.
type Identity struct {
	Version     string
	Certificate tls.Certificate
	Roots       *x509.CertPool
}

// Source reads Certmint's files in the pod, and reads them again after a renewal.
type Source struct {
	mutex   sync.Mutex
	current *Identity
}

// Current returns the newest identity, for the next connection.
func (s *Source) Current() (*Identity, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	newest, err := s.newest()
	if err == nil {
		s.current = newest
	} else if s.current != nil {
		// The files were replaced during the read. The next connection reads them.
		log.Printf("keeping the certificate read before: %v", err)
	} else {
		return nil, err
	}
	return s.current, nil
}

func (s *Source) newest() (*Identity, error) {
	// tls.crt is a symbolic link into a directory that is replaced as a whole. The link's target is the version. All
	// files in that directory belong to the same version.
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
	// A separate pool, so that the operating system's certificate authorities are not trusted.
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in ca.crt")
	}
	return &Identity{Version: version, Certificate: certificate, Roots: roots}, nil
}
