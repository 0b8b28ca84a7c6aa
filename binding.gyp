{
  "targets": [
    {
      "target_name": "eigenscope",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake_js",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/eigenscope.node.always"],
          "action": ["node", "scripts/gyp-delegate.mjs"]
        }
      ]
    }
  ]
}
