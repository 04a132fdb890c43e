package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"time"
)

// caller calls a server with the newest certificate.
type caller struct {
	source  *Source
	version string
	client  *http.Client
}

// call prints the response of url, and returns whether its status is 200.
func (c *caller) call(url string) bool {
	client, err := c.newest()
	if err != nil {
		log.Print("failed: ", err)
		return false
	}
	answer, err := client.Get(url)
	if err != nil {
		log.Print("failed: ", err)
		return false
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		log.Print("failed: ", err)
		return false
	}
	server := answer.TLS.PeerCertificates[0].SerialNumber
	fmt.Printf("%d %s, by server %x\n", answer.StatusCode, strings.TrimSpace(string(body)), server)
	return answer.StatusCode == http.StatusOK
}

// newest returns a client with the newest certificate. A client keeps its connections with the certificate with which they were
// opened, so a renewed certificate needs a new client.
func (c *caller) newest() (*http.Client, error) {
	current, err := c.source.Current()
	if err != nil || current.Version == c.version {
		return c.client, err
	}
	if c.client != nil {
		c.client.CloseIdleConnections()
	}
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		IdleConnTimeout:   time.Minute,
		TLSClientConfig: &tls.Config{
			MinVersion:   tls.VersionTLS13,
			Certificates: []tls.Certificate{current.Certificate},
			RootCAs:      current.Roots,
		},
	}
	c.client = &http.Client{Transport: transport, Timeout: 10 * time.Second}
	c.version = current.Version
	return c.client, nil
}
