//! Network devices, from the runtime's side, over rtnetlink.
