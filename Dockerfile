# The broker as one static binary that runs as nobody in particular.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /streamhouse ./cmd/streamhouse && mkdir /data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /streamhouse /streamhouse
# Not by WORKDIR alone: builders before BuildKit make its folder root's, in which nobody in particular may not write.
COPY --from=build --chown=65532:65532 /data /data
WORKDIR /data
ENTRYPOINT ["/streamhouse"]
CMD ["serve"]
