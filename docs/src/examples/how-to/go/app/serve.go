package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// versionKey is the key of a connection's context for the version with which it was opened.
type versionKey struct{}

// serve accepts the callers in ALLOWED_CALLERS, and no others.
func serve(source *Source) error {
	if _, err := source.Current(); err != nil {
		return err
	}
	server := &http.Server{
		Addr:              ":8443",
		Handler:           payments(source, strings.Split(os.Getenv("ALLOWED_CALLERS"), ",")),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		TLSConfig: &tls.Config{
			MinVersion:         tls.VersionTLS13,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return serverConfig(source) },
		},
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			current, _ := source.Current()
			return context.WithValue(ctx, versionKey{}, current.Version)
		},
	}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServeTLS("", "") }()
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	select {
	case err := <-failed:
		return err
	case <-stop.Done():
		// Finishes open requests.
		return server.Shutdown(context.Background())
	}
}

// serverConfig returns the TLS configuration for a handshake.
func serverConfig(source *Source) (*tls.Config, error) {
	current, err := source.Current()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h2", "http/1.1"},
		Certificates: []tls.Certificate{current.Certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    current.Roots,
		// Without resumption every connection presents its certificate.
		SessionTicketsDisabled: true,
	}, nil
}

func payments(source *Source, allowed []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if current, _ := source.Current(); current.Version != r.Context().Value(versionKey{}) {
			// The certificate was renewed after the handshake, so this is the connection's last response.
			w.Header().Set("Connection", "close")
		}
		certificate := r.TLS.PeerCertificates[0]
		caller := spiffeID(certificate)
		status, sentence := http.StatusForbidden, caller+" may not pay"
		// Without ALLOWED_CALLERS the list has one empty entry.
		if caller != "" && slices.Contains(allowed, caller) {
			status, sentence = http.StatusOK, fmt.Sprintf("paid, %s with certificate %x", caller, certificate.SerialNumber)
		}
		log.Print(status, " ", sentence)
		w.WriteHeader(status)
		fmt.Fprintln(w, sentence)
	})
}

// spiffeID returns the only URI in the certificate.
func spiffeID(certificate *x509.Certificate) string {
	if len(certificate.URIs) != 1 {
		return ""
	}
	return certificate.URIs[0].String()
}
