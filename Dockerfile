# The images of Paddock for people with a container engine; `paddock-cluster image build` makes the same without one.
#   docker build --target operator -t paddock/operator .
#   docker build --target platform -t paddock/platform .
FROM rust:1-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The profile of everything else (docs/adr/0003-one-profile.md): with overflow checks.
RUN cargo build --locked --bin paddock-operator --bin paddock

FROM gcr.io/distroless/cc-debian12:nonroot AS operator
COPY --from=build /src/target/debug/paddock-operator /paddock-operator
USER 65532:65532
ENTRYPOINT ["/paddock-operator"]

# One binary, started by the name of the component.
FROM build AS links
RUN mkdir /links && for name in feed rates calculations settlement account gateway; do ln -s /paddock "/links/paddock-$name"; done

FROM gcr.io/distroless/cc-debian12:nonroot AS platform
COPY --from=build /src/target/debug/paddock /paddock
COPY --from=links /links/ /
USER 65532:65532
ENTRYPOINT ["/paddock"]
