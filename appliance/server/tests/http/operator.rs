//! The local socket: its mode, keys, status, and the API without a key.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use serde_json::json;
use server::{Listen, ListenError, Server};

use crate::site::{MODEL, NOW, Site, request};

#[test]
fn keys_are_made_listed_and_revoked() {
    let site = Site::new();
    let body = json!({"tenant": "shop", "label": "till"}).to_string();
    let made = site.local("POST", "/admin/keys", &body);
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let models = || site.raw(request("GET", "/v1/models", secret, "").as_bytes()).status;
    assert_eq!(models(), 200);
    let listed = site.local("GET", "/admin/keys", "");
    assert!(!listed.body.contains(secret), "a list shows no secret");
    let expected = json!({"id": id, "tenant": "shop", "label": "till",
                          "created_unix_seconds": NOW, "revoked_unix_seconds": null});
    assert!(listed.json()["keys"].as_array().unwrap().contains(&expected), "{listed:?}");
    assert_eq!(site.local("DELETE", &format!("/admin/keys/{id}"), "").status, 200);
    assert_eq!(models(), 401);
    assert_eq!(site.local("DELETE", &format!("/admin/keys/{id}"), "").status, 404);
    for body in ["{}", "{\"tenant\": \"a b\"}", "{\"tenant\": \"a\", \"x\": 1}", "[]"] {
        assert_eq!(site.local("POST", "/admin/keys", body).status, 400, "{body}");
    }
}

#[test]
fn the_socket_is_its_owners_and_needs_no_key() {
    let site = Site::new();
    let mode = std::fs::metadata(&site.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let status = site.local("GET", "/admin/status", "").json();
    assert_eq!((status["health"].as_str(), status["version"].as_str()), (Some("ready"), Some("0")));
    assert_eq!(status["models"][0]["provenance"], "made here");
    let disk = &status["hardware"]["disk"];
    assert!(disk["bytes"].as_u64() >= disk["bytes_free"].as_u64(), "{disk}");
    assert!(disk["bytes"].as_u64() > Some(0), "{disk}");
    let body = json!({"model": MODEL, "prompt": "a", "max_tokens": 1}).to_string();
    assert_eq!(site.local("POST", "/v1/completions", &body).status, 200);
    assert_eq!(site.local("GET", "/v1/models/small", "").status, 200);
    assert_eq!(site.local("GET", "/health/ready", "").status, 200);
}

#[test]
fn a_path_that_is_taken_is_left_alone() {
    let site = Site::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bind = |admin_socket| {
        let address = ([127, 0, 0, 1], 0).into();
        let listen = Listen { address, admin_socket, medium: None, console: None };
        runtime.block_on(Server::bind(&listen, Arc::clone(&site.state))).err().unwrap()
    };
    assert!(matches!(bind(site.socket.clone()), ListenError::SocketInUse { .. }));
    let file = site.socket.with_extension("txt");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(bind(file.clone()), ListenError::Socket { .. }));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}
