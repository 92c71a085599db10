// A like, a page of likers and a handled rate limit, from Go. GRPC_ADDR is the address of a server.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	pb "interaction/v1"
)

var waited bool

func video(id int64) *pb.Resource {
	return &pb.Resource{Type: pb.ResourceType_RESOURCE_TYPE_VIDEO, Id: id}
}

// The time that a refusal asks for; none if it names no time.
func retryAfter(err error) (time.Duration, bool) {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			delay := info.GetRetryDelay()
			return time.Duration(delay.GetSeconds())*time.Second + time.Duration(delay.GetNanos()), true
		}
	}
	return 0, false
}

func like(client pb.InteractionServiceClient, user, id int64) *pb.LikeResponse {
	// With a key, whoever gets no answer may send the same again.
	key := fmt.Sprintf("%d-%d-%d", user, id, time.Now().UnixNano())
	request := &pb.LikeRequest{UserId: user, Resource: video(id), IdempotencyKey: key}
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		answer, err := client.Like(ctx, request)
		cancel()
		if err == nil {
			return answer
		}
		wait, ok := retryAfter(err)
		if !ok {
			log.Fatal(err)
		}
		fmt.Println("limited: wait", wait)
		time.Sleep(wait)
		waited = true
	}
}

func main() {
	address := os.Getenv("GRPC_ADDR")
	if address == "" {
		address = "127.0.0.1:50051"
	}
	connection, err := grpc.Dial(address, grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	client := pb.NewInteractionServiceClient(connection)

	answer := like(client, 8001, 42)
	fmt.Println("liked:", answer.GetLiked(), "count", answer.GetCount())
	for id := int64(1000); id < 1200 && !waited; id++ {
		answer = like(client, 8001, id)
		if waited {
			fmt.Println("liked:", answer.GetLiked())
		}
	}
	page, err := client.ListLikers(context.Background(), &pb.ListLikersRequest{Resource: video(42), PageSize: 10})
	if err != nil {
		log.Fatal(err)
	}
	for _, liker := range page.GetLikers() {
		fmt.Println("liker:", liker.GetUserId())
	}
}
