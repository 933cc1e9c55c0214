// Submits messages by Go's net/smtp, all over one connection.
//
//	submit KEY=VALUE... FILE...
//
// Keys: port, from, to (repeated), tls (none, starttls, implicit), ca (a certificate to trust), user, password. Each
// file is one content. Prints "250" for each message that was taken; ends with 1 and the error as its user sees it.
// The package knows AUTH PLAIN and CRAM-MD5 only.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"strings"
)

const host = "127.0.0.1"

func main() {
	keys, recipients, files := map[string]string{}, []string{}, []string{}
	for _, word := range os.Args[1:] {
		at := strings.Index(word, "=")
		switch {
		case at < 0:
			files = append(files, word)
		case word[:at] == "to":
			recipients = append(recipients, word[at+1:])
		default:
			keys[word[:at]] = word[at+1:]
		}
	}
	if len(files) == 0 {
		fmt.Fprintln(os.Stderr, "usage: submit KEY=VALUE... FILE...")
		os.Exit(2)
	}
	if err := submit(keys, recipients, files); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func submit(keys map[string]string, recipients, files []string) error {
	client, err := connect(keys)
	if err != nil {
		return err
	}
	defer client.Close()
	if user := keys["user"]; user != "" {
		if err := client.Auth(smtp.PlainAuth("", user, keys["password"], host)); err != nil {
			return err
		}
	}
	for _, file := range files {
		if err := send(client, keys["from"], recipients, file); err != nil {
			return err
		}
		fmt.Println("250")
	}
	return client.Quit()
}

func connect(keys map[string]string) (*smtp.Client, error) {
	trusted := x509.NewCertPool()
	if keys["ca"] != "" {
		pem, err := os.ReadFile(keys["ca"])
		if err != nil {
			return nil, err
		}
		trusted.AppendCertsFromPEM(pem)
	}
	config := &tls.Config{ServerName: host, RootCAs: trusted}
	var connection net.Conn
	var err error
	if keys["tls"] == "implicit" {
		connection, err = tls.Dial("tcp", host+":"+keys["port"], config)
	} else {
		connection, err = net.Dial("tcp", host+":"+keys["port"])
	}
	if err != nil {
		return nil, err
	}
	client, err := smtp.NewClient(connection, host)
	if err != nil {
		return nil, err
	}
	if err := client.Hello("client.example.org"); err != nil {
		return nil, err
	}
	if keys["tls"] == "starttls" {
		return client, client.StartTLS(config)
	}
	return client, nil
}

func send(client *smtp.Client, from string, recipients []string, file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := client.Mail(from); err != nil {
		return err
	}
	for _, recipient := range recipients {
		if err := client.Rcpt(recipient); err != nil {
			return err
		}
	}
	writer, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := writer.Write(content); err != nil {
		return err
	}
	return writer.Close()
}
