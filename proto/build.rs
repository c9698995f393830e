//! Turns `wire/*.proto` into Rust. The compiler is pure Rust, so no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 2] = ["wire/coordinator.proto", "wire/loader.proto"];
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["wire"])?;
    // `Bytes` instead of `Vec<u8>`: pixels pass from the socket to the device without another copy.
    // Without the generated `connect` constructors: they clash with the method `Connect`, and `connect.rs` has better.
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
