# algate in a container: built in one stage, run in a slim one. Packages come from scripts/packages, as everywhere.
#
#   docker build -t algate .
#   docker run --rm --privileged --network host -v /dev/hugepages:/dev/hugepages -v $PWD/algate.toml:/etc/algate.toml algate
#
# The container needs the host's devices: --network host for af_packet and af_xdp, /dev/vfio (through --privileged) for PCI.

FROM rust:1-bookworm AS build
WORKDIR /algate
COPY scripts scripts
COPY Cargo.toml rust-toolchain.toml ./
RUN scripts/setup build
COPY . .
RUN cargo build --release --locked --package algate

FROM debian:bookworm-slim
COPY --from=build /algate/scripts /tmp/algate/scripts
RUN /tmp/algate/scripts/setup run && rm -rf /tmp/algate /var/lib/apt/lists/*
COPY --from=build /algate/target/release/algate /usr/local/bin/algate
STOPSIGNAL SIGTERM
ENTRYPOINT ["algate"]
CMD ["run", "-c", "/etc/algate.toml"]
