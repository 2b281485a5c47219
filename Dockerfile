# One image for both roles: `watchfire sentinel FILE` and `watchfire server FILE`.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN useradd --system --create-home --home-dir /var/lib/watchfire watchfire
COPY --from=build /src/target/release/watchfire /usr/local/bin/watchfire
USER watchfire
WORKDIR /var/lib/watchfire
# 26379: sentinel, 6379: data node.
EXPOSE 26379 6379
ENTRYPOINT ["watchfire"]
CMD ["--help"]
