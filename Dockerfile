# Builds the images certmint and certmint-fetch with a container engine:
#   docker build --target certmint --tag registry.example.com/certmint:dev .
#   docker build --target certmint-fetch --tag registry.example.com/certmint-fetch:dev .
# `cargo xtask image` builds the same images without a container engine.

FROM docker.io/library/rust:1.95-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends cmake musl-tools \
 && rm -rf /var/lib/apt/lists/* \
 && rustup target add x86_64-unknown-linux-musl
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --locked --target x86_64-unknown-linux-musl --profile release --package certmint \
 && cargo build --locked --target x86_64-unknown-linux-musl --profile sidecar --package certmint-fetch \
 && cp target/x86_64-unknown-linux-musl/release/certmint target/x86_64-unknown-linux-musl/sidecar/certmint-fetch /

FROM scratch AS certmint-fetch
COPY --from=build /certmint-fetch /certmint-fetch
USER 65532:65532
ENTRYPOINT ["/certmint-fetch"]

FROM scratch AS certmint
COPY --from=build /certmint /certmint
USER 65532:65532
ENTRYPOINT ["/certmint"]
