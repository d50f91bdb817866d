//! The shape of a module's messages as it was last loaded, so that the next contract is held against it.
//!
//! Kept are descriptors without options and comments, and by which fields records are placed. It is read back without the
//! loader: one that has become stricter must not keep a server from its data.

use crate::{
    open::Open,
    refused::{LoadError, StoreError},
    system::SystemKind,
};
use prost::Message;
use prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor};
use prost_types::FileDescriptorSet;
use std::{collections::BTreeSet, sync::Arc};
use sys_contract::{
    breaking_changes,
    model::{Contract, Home, Record},
    names,
    problem::{Place, Problems},
};

/// Whether a module's shape is kept already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// As it is in the contract.
    Same,
    /// Not yet, or as an older contract had it.
    Otherwise,
}

/// The row of a module.
#[derive(Clone, PartialEq, prost::Message)]
struct ShapeRow {
    /// The module's files and all that they import.
    #[prost(message, optional, tag = "1")]
    descriptors: Option<FileDescriptorSet>,
    /// Which of them are the module's own.
    #[prost(string, repeated, tag = "2")]
    files: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<RecordShape>,
}

/// How the records of a type are kept. Fields by number, 0 for none.
#[derive(Clone, PartialEq, prost::Message)]
struct RecordShape {
    #[prost(string, tag = "1")]
    message: String,
    #[prost(string, tag = "2")]
    table: String,
    #[prost(bool, tag = "3")]
    global: bool,
    #[prost(uint32, tag = "4")]
    org: u32,
    #[prost(uint32, tag = "5")]
    project: u32,
    #[prost(uint32, tag = "6")]
    owner: u32,
}

impl Open {
    /// Refuses a contract that breaks what is stored under the last one.
    pub(crate) async fn check_shape(&mut self, contract: &Contract) -> Result<Kept, LoadError> {
        let Some(row) = self.row(SystemKind::Contract, contract.module.as_bytes()).await? else {
            return Ok(Kept::Otherwise);
        };
        let kept = ShapeRow::decode(row.as_slice()).map_err(|error| unreadable(&error.to_string()))?;
        if kept == ShapeRow::of(contract)? {
            return Ok(Kept::Same);
        }
        match breaking_changes(&kept.contract(&contract.module)?, contract) {
            problems if problems.is_empty() => Ok(Kept::Otherwise),
            problems => Err(LoadError::Breaking(Problems(problems))),
        }
    }

    /// Refuses packages that another module has brought before: they stay that one's, loaded or not. Else a folder that was
    /// given another name would begin anew, with none of its records.
    pub(crate) async fn refuse_owned(&mut self, contract: &Contract) -> Result<(), LoadError> {
        let packages = ShapeRow::of(contract)?.packages();
        for module in self.module_names().await?.into_iter().filter(|module| *module != contract.module) {
            let Some(row) = self.row(SystemKind::Contract, module.as_bytes()).await? else { continue };
            let kept = ShapeRow::decode(row.as_slice()).map_err(|error| unreadable(&error.to_string()))?;
            if let Some(package) = packages.intersection(&kept.packages()).next() {
                return Err(LoadError::Owned { package: package.clone(), module });
            }
        }
        Ok(())
    }

    /// The contract that a module was last loaded with, as far as it is kept: with neither rules nor methods nor indexes.
    pub(crate) async fn kept_contract(&mut self, module: &str) -> Result<Option<Contract>, StoreError> {
        let Some(row) = self.row(SystemKind::Contract, module.as_bytes()).await? else { return Ok(None) };
        read(row.as_slice(), module).map(Some)
    }

    /// Keeps a contract's shape.
    pub(crate) async fn keep_shape(&mut self, contract: &Contract) -> Result<(), StoreError> {
        let row = ShapeRow::of(contract)?.encode_to_vec();
        self.put_row(SystemKind::Contract, contract.module.as_bytes(), row).await
    }
}

/// The contract that a row keeps the shape of.
pub(crate) fn read(row: &[u8], module: &str) -> Result<Contract, StoreError> {
    ShapeRow::decode(row).map_err(|error| unreadable(&error.to_string()))?.contract(module)
}

impl ShapeRow {
    fn of(contract: &Contract) -> Result<Self, StoreError> {
        // Read as plain descriptors, which drops the options of ours and of protovalidate.
        let mut descriptors = FileDescriptorSet::decode(contract.pool.encode_to_vec().as_slice())
            .map_err(|error| unreadable(&error.to_string()))?;
        descriptors.file.iter_mut().for_each(|file| file.source_code_info = None);
        let number = |field: &Option<FieldDescriptor>| field.as_ref().map_or(0, FieldDescriptor::number);
        let record = |record: &Record| RecordShape {
            message: record.message.full_name().to_owned(),
            table: record.table.clone(),
            global: record.home == Home::Global,
            org: number(&record.org),
            project: number(&record.project),
            owner: number(&record.owner),
        };
        let records = contract.records.iter().map(record).collect();
        Ok(Self { descriptors: Some(descriptors), files: contract.files.clone(), records })
    }

    /// The packages of the module's own files.
    fn packages(&self) -> BTreeSet<String> {
        let files = self.descriptors.iter().flat_map(|descriptors| &descriptors.file);
        let own = files.filter(|file| self.files.iter().any(|own| own == file.name()));
        own.map(|file| file.package().to_owned()).collect()
    }

    /// A contract of this shape, with neither rules nor methods.
    fn contract(&self, module: &str) -> Result<Contract, StoreError> {
        let descriptors = self.descriptors.clone().unwrap_or_default();
        // prost-reflect knows no editions and panics on one.
        if let Some(file) = descriptors.file.iter().find(|file| !matches!(file.syntax(), "" | "proto2" | "proto3")) {
            return Err(unreadable(&format!("{} is written in another syntax", file.name())));
        }
        let pool =
            DescriptorPool::from_file_descriptor_set(descriptors).map_err(|error| unreadable(&error.to_string()))?;
        let mut records = Vec::with_capacity(self.records.len());
        for record in &self.records {
            let message = pool.get_message_by_name(&record.message).ok_or_else(|| unreadable(&record.message))?;
            records.push(record.record(message).ok_or_else(|| unreadable(&record.message))?);
        }
        let (module, files) = (module.to_owned(), self.files.clone());
        Ok(Contract { module, built_in: false, pool, files, services: Vec::new(), records, validations: Vec::new() })
    }
}

impl RecordShape {
    fn record(&self, message: MessageDescriptor) -> Option<Record> {
        let file: Arc<str> = message.parent_file().name().into();
        Some(Record {
            prefix: names::id_prefix(message.name()),
            comment: String::new(),
            table: self.table.clone(),
            home: if self.global { Home::Global } else { Home::Org },
            id: message.get_field_by_name("id")?,
            etag: None,
            org: message.get_field(self.org),
            project: message.get_field(self.project),
            owner: message.get_field(self.owner),
            allow: Vec::new(),
            fields: Vec::new(),
            place: Place { file, line: 0, column: 0 },
            message,
        })
    }
}

fn unreadable(what: &str) -> StoreError {
    StoreError::Catalog { what: format!("the shape of a contract: {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::FileDescriptorProto;

    #[test]
    fn a_shape_in_an_unknown_syntax_is_refused() {
        let row = |syntax: &str| {
            let (name, syntax) = (Some("a.proto".to_owned()), Some(syntax.to_owned()));
            let file = FileDescriptorProto { name, syntax, ..FileDescriptorProto::default() };
            let descriptors = Some(FileDescriptorSet { file: vec![file] });
            ShapeRow { descriptors, ..ShapeRow::default() }.encode_to_vec()
        };
        assert!(read(&row("proto3"), "mod-a").is_ok());
        assert!(read(&row("editions"), "mod-a").is_err());
    }
}
