// What is in an image, with net/http: go run predict.go cat.jpg [http://localhost:8000]
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"
)

const (
	tries       = 5
	longestWait = 10 // seconds
)

type reply struct {
	Label       string  `json:"label"`
	Probability float64 `json:"probability"`
	Unsure      bool    `json:"unsure"`
	Error       struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

var client = &http.Client{Timeout: 30 * time.Second}

// predict sends an image; what is rejected because the service is busy is sent again after Retry-After.
func predict(url string, image []byte) (reply, error) {
	for tried := 1; ; tried++ {
		request, err := http.NewRequest(http.MethodPost, url+"/predict?top_k=1", bytes.NewReader(image))
		if err != nil {
			return reply{}, err
		}
		request.Header.Set("Content-Type", "application/octet-stream")
		if key := os.Getenv("KERNELSCOPE_API_KEY"); key != "" {
			request.Header.Set("Authorization", "Bearer "+key)
		}
		response, err := client.Do(request)
		if err != nil {
			return reply{}, err
		}
		var answer reply
		err = json.NewDecoder(response.Body).Decode(&answer)
		response.Body.Close()
		if err != nil {
			return reply{}, fmt.Errorf("%s: %w", response.Status, err)
		}
		if response.StatusCode == http.StatusOK {
			return answer, nil
		}
		wait, err := strconv.Atoi(response.Header.Get("Retry-After"))
		if err != nil {
			wait = 1
		}
		if response.StatusCode != http.StatusServiceUnavailable || tried == tries || wait > longestWait {
			return reply{}, fmt.Errorf("%s: %s", answer.Error.Code, answer.Error.Message)
		}
		time.Sleep(time.Duration(wait) * time.Second)
	}
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: predict IMAGE [URL]")
		os.Exit(2)
	}
	url := "http://localhost:8000"
	if len(os.Args) > 2 {
		url = os.Args[2]
	}
	image, err := os.ReadFile(os.Args[1])
	if err == nil {
		var answer reply
		if answer, err = predict(url, image); err == nil {
			fmt.Printf("%s %.3f\n", answer.Label, answer.Probability)
			return
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
